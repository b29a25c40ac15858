"""Checks the object files of each instruction set in a CMake build: python .ci/check_objects.py BUILD_DIR

A file compiled with -mavx2 must define only symbols of its own namespace. The linker could choose its copy of
a weak symbol (an inline function or a template of the standard library) for every caller, and a CPU without
AVX2 would crash.
"""

import re
import subprocess
import sys
from pathlib import Path

# A folder is also the namespace of its files. The scalar folder has no compiler options of its own.
OBJECT = re.compile(r"/kernels/(?!scalar/)(\w+)/\w+\.cpp\.(o|obj)$")
DEFINED_ONCE = "TDBRtdbr"  # nm's kinds of code, data and constants with one definition
NO_CODE = ("DW.ref.", "__odr_asan", "$")  # data of exception tables and sanitizers, mapping symbols


def defined_symbols(path: Path) -> list[tuple[str, str]]:
    """The kind (nm's letter) and demangled name of every symbol that an object file defines."""
    command = ["nm", "--demangle", "--defined-only", str(path)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    symbols = (re.fullmatch(r"[0-9a-f]*\s+(\S)\s+(.*)", line) for line in lines)
    return [(match[1], match[2]) for match in symbols if match]


def table_name(folder: str) -> str:
    """The variable that holds the kernel table of a folder: kNeonDotprodTable for neon_dotprod."""
    return "k" + "".join(word.capitalize() for word in folder.split("_")) + "Table"


def faults(path: Path, isa: str) -> list[str]:
    """A message for every symbol that an object file of an instruction set must not define. `isa`: its folder
    and namespace."""
    # For specializations of templates, nm writes the return type before the name.
    own = re.compile(rf"([\w ]+ )?binhdan::({isa}::|{table_name(isa)}\b)")
    found = []
    for kind, name in defined_symbols(path):
        if name.startswith(NO_CODE):
            continue
        if kind not in DEFINED_ONCE:
            found.append(f"{path}: weak or shared symbol ({kind}): {name}")
        elif kind.isupper() and not own.match(name):
            found.append(
                f"{path}: global symbol, expected it in binhdan::{isa}:: or named {table_name(isa)} "
                f"({kind}): {name}"
            )
    return found


def main() -> int:
    """Prints the faults. Returns 0 if there are none and the build has object files of instruction sets."""
    build = Path(sys.argv[1])
    matches = ((path, OBJECT.search(path.as_posix())) for path in sorted(build.rglob("*.cpp.*")))
    objects = [(path, match[1]) for path, match in matches if match]
    found = [fault for path, isa in objects for fault in faults(path, isa)]
    print("\n".join(found) or f"{len(objects)} object files of instruction sets, all clean")
    if not objects:
        print(f"{build}: expected object files such as kernels/avx2/matmul.cpp.o", file=sys.stderr)
    return 1 if found or not objects else 0


if __name__ == "__main__":
    sys.exit(main())
