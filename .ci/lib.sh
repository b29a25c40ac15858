# Functions and variables of .ci/run, .ci/full and .ci/cross. Not a program: they source it.
#
# Everything that a script builds is below $work: a new temporary folder, or BINHDAN_CI_DIR if it is set.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
repo=$PWD
work=${BINHDAN_CI_DIR:-$(mktemp -d)}
jobs=$(nproc)
mkdir -p "$work"
if [ "$(basename "$0")" != cross ]; then rm -f "$work/skipped.log"; fi
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

# Sanitizers find the same errors at -O1 as at higher levels, and -O1 compiles in half the time.
sanitizer_options=(-DCMAKE_BUILD_TYPE=None "-DCMAKE_CXX_FLAGS=-O1 -g1" "-DCMAKE_C_FLAGS=-O1 -g1")

# step TEXT...: prints the heading of a step and the seconds since the start of the script.
step() { printf '\n=== %s (%ds)\n' "$*" "$SECONDS"; }

# need COMMAND PACKAGE...: makes sure that COMMAND exists. As root it installs the Debian packages; otherwise it fails
# and prints SKIPPED, and the caller skips its step.
need() {
  local command=$1; shift
  command -v "$command" >/dev/null && return
  if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    [ -n "${apt_updated:-}" ] || { apt-get -qq update >/dev/null; apt_updated=1; }
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y "$@" >/dev/null 2>&1 || true
  fi
  command -v "$command" >/dev/null || { skip "no $command, and $* could not be installed"; return 1; }
}

# skip REASON: says that a step is skipped, now and in the summary.
skip() { echo "SKIPPED: $*" | tee -a "$work/skipped.log"; }

# summary LOG...: the last lines of logs of pytest, and the skipped steps.
summary() {
  tail -q -n 1 "$@"
  if [ -s "$work/skipped.log" ]; then cat "$work/skipped.log"; fi
}

# build DIR CMAKE_OPTION...: builds the core and its C++ tests in DIR, with warnings as errors. Prints the end of the
# log if that fails. TARGETS="a b": builds these targets only.
build() {
  local dir=$1; shift
  { cmake -S "$repo" -B "$dir" -G Ninja -DBINHDAN_TESTS=ON -DBINHDAN_WERROR=ON "$@" &&
      cmake --build "$dir" -j "$jobs" ${TARGETS:+--target $TARGETS}; } >"$dir.log" 2>&1 ||
    { tail -n 40 "$dir.log"; return 1; }
}

# cpp_sources PREFIX: the names of tests/cpp/PREFIX*.cpp without the extension; these are names of targets.
cpp_sources() { (cd tests/cpp && echo "$1"*.cpp | sed 's/\.cpp//g'); }

# check_answer DIR [PREFIX...]: compiles examples/embed_c with the library in DIR, runs it behind PREFIX (such as qemu
# or valgrind) and compares the answer with that of the README. CC: the compiler.
check_answer() {
  local dir=$1 program=$1/embed.exe; shift # wine runs no other name
  "${CC:-cc}" -std=c99 -O2 examples/embed_c/embed.c -Icsrc/include -L"$dir" -lbinhdan -o "$program"
  "$@" "$program" runtime/assets/*.gguf "them dau: ha noi la thu do cua viet nam" | tee "$dir.answer"
  grep -q 'hà nội là thủ đô của việt nam' "$dir.answer"
}
