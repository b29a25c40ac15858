# Shared by .ci/run and .ci/full: where things go, how a step is announced, what the machine must have.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
repo=$PWD
work=${BINHDAN_CI_DIR:-$(mktemp -d)}
jobs=$(nproc)
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

step() { printf '\n=== %s (%ds)\n' "$*" "$SECONDS"; }

# need COMMAND PACKAGE...: installs Debian packages where we may; otherwise fails, and the caller skips its step.
need() {
  local command=$1; shift
  command -v "$command" >/dev/null && return
  if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    [ -n "${apt_updated:-}" ] || { apt-get -qq update >/dev/null; apt_updated=1; }
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y "$@" >/dev/null 2>&1 || true
  fi
  command -v "$command" >/dev/null || { echo "SKIPPED: no $command, and $* could not be installed"; return 1; }
}

# build DIR CMAKE-OPTIONS...: the core and its C++ tests, warnings as errors.
build() {
  local dir=$1; shift
  { cmake -S "$repo" -B "$dir" -DBINHDAN_TESTS=ON -DBINHDAN_WERROR=ON "$@" &&
      cmake --build "$dir" -j "$jobs"; } >"$dir.log" 2>&1 || { tail -n 40 "$dir.log"; return 1; }
}
