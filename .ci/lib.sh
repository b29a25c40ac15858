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

# build DIR CMAKE-OPTIONS...: the core and its C++ tests, warnings as errors. TARGETS="a b": only those.
build() {
  local dir=$1; shift
  { cmake -S "$repo" -B "$dir" -G Ninja -DBINHDAN_TESTS=ON -DBINHDAN_WERROR=ON "$@" &&
      cmake --build "$dir" -j "$jobs" ${TARGETS:+--target $TARGETS}; } >"$dir.log" 2>&1 ||
    { tail -n 40 "$dir.log"; return 1; }
}

# answers DIR COMMAND...: the example of the C interface beside the library in DIR, run by COMMAND, knows the README's
# answer. CC: another compiler.
answers() {
  local dir=$1; shift
  "${CC:-cc}" -std=c99 -O2 examples/embed_c/embed.c -Icsrc/include -L"$dir" -lbinhdan -o "$dir/embed"
  "$@" "$dir/embed" runtime/assets/*.gguf "them dau: ha noi la thu do cua viet nam" | tee "$dir.answer"
  grep -q 'hà nội là thủ đô của việt nam' "$dir.answer"
}

# Sanitizers find the same faults at -O1, and compile in half the time.
sanitized=(-DCMAKE_BUILD_TYPE=None "-DCMAKE_CXX_FLAGS=-O1 -g1" "-DCMAKE_C_FLAGS=-O1 -g1")
clang=(-DCMAKE_C_COMPILER=clang-19 -DCMAKE_CXX_COMPILER=clang++-19)
fuzzers() { (cd tests/cpp && echo fuzz_*.cpp | sed 's/\.cpp//g'); }
