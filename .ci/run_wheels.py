#!/usr/bin/env python3
"""Runs wheels of all platforms on Linux: .ci/run_wheels.py FOLDER [--write]

Each wheel in FOLDER is run as far as this machine can. A wheel for it is installed with pip for each Python
from 3.11 on, and in a new Debian system without a compiler. For other platforms, examples/embed_c is compiled
against the wheel's library and answers under qemu, the loader of musl, or wine. --write puts the table into
docs/embedding.md; rows of wheels that are not in FOLDER stay.

Needs: pip install ziglang wheel; Debian: qemu-user-static, libc6-dev-arm64-cross, musl, wine64, llvm,
debootstrap. A wheel that cannot be run counts as not run.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/embedding.md"
MARKS = ("<!-- wheels: table -->", "<!-- end wheels -->")
HEAD = "| wheel | MB | what was run |\n| --- | ---: | --- |"
QUESTION, ANSWER = "them dau: ha noi la thu do cua viet nam", "hà nội là thủ đô của việt nam"
VERSIONS = ("3.11", "3.12", "3.13", "3.14")


class NotRunError(Exception):
    """This machine lacks what the wheel needs."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    wheels = sorted(arguments.folder.glob("*.whl"))
    if not wheels:
        sys.exit(f"{arguments.folder}: expected wheels of .ci/wheels.py")
    rows = {platform_of(wheel): row(wheel) for wheel in wheels}
    print("\n".join(rows.values()))
    if arguments.write:
        write_table(rows)


def platform_of(wheel: Path) -> str:
    return wheel.stem.split("-")[-1]


def row(wheel: Path) -> str:
    platform = platform_of(wheel)
    run = next(function for pattern, function in RUNNERS.items() if re.fullmatch(pattern, platform))
    with tempfile.TemporaryDirectory() as folder:
        try:
            result = run(wheel, Path(folder))
        except NotRunError as error:
            result = f"built; not run: {error}"
    return f"| `{platform}` | {wheel.stat().st_size / 1e6:.1f} | {result} |"


# ---- what a wheel's platform needs -------------------------------------------------------------------------


def run_natively(wheel: Path, folder: Path) -> str:
    pythons = [python for version in VERSIONS if (python := find_python(version))]
    if not pythons:
        raise NotRunError(f"no Python {VERSIONS[0]} or newer")
    for version, python in pythons:
        environment = folder / version
        call(python, "-m", "venv", environment)
        call(environment / "bin/pip", "install", "-q", wheel)
        home = folder / f"home-{version}"
        home.mkdir()
        # Neither a compiler nor a setting of the user can help: PATH has the environment only.
        variables = {"HOME": str(home), "PATH": str(environment / "bin"), "LC_ALL": "C.UTF-8"}
        expect_answer(call(environment / "bin/binhdan", "ask", QUESTION, variables=variables))
    result = f"`pip install` and `binhdan ask` with Python {', '.join(version for version, _ in pythons)}"
    try:
        return f"{result}; {run_in_new_system(wheel, folder)}"
    except NotRunError as error:
        print(f"{wheel.name}: no new system: {error}", file=sys.stderr)
        return result


def run_in_new_system(wheel: Path, folder: Path) -> str:
    """Debian without a compiler, in a chroot. Its packages of Python come from a folder of wheels."""
    if os.getuid() != 0:
        raise NotRunError("debootstrap needs root")
    debootstrap, system = need("debootstrap", "debootstrap"), folder / "system"
    call(debootstrap, "--variant=minbase", "--include=python3-venv", "stable", system)
    packages = system / "packages"
    packages.mkdir()
    shutil.copy(wheel, packages)
    version = call("chroot", system, "python3", "-c", "import sys; print(*sys.version_info[:2], sep='.')")
    download = [sys.executable, "-m", "pip", "download", "-q", "--only-binary=:all:", "--dest", packages]
    call(*download, "--python-version", version, "cffi>=1.16", "jinja2>=3.1.5")
    call("chroot", system, "python3", "-m", "venv", "/app")
    install = ["/app/bin/pip", "install", "-q", "--no-index", "--find-links", "/packages"]
    call("chroot", system, *install, f"/packages/{wheel.name}")
    if any((system / "usr/bin" / name).exists() for name in ("cc", "gcc", "g++", "clang")):
        sys.exit(f"{system}: expected a system without a compiler")
    variables = {"HOME": "/root", "PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8"}
    expect_answer(call("chroot", system, "/app/bin/binhdan", "ask", QUESTION, variables=variables))
    return "and in a new Debian system without a compiler"


def run_aarch64_glibc(wheel: Path, folder: Path) -> str:
    root = Path("/usr/aarch64-linux-gnu")
    if not (root / "lib/ld-linux-aarch64.so.1").exists():
        raise NotRunError(f"no glibc in {root}: apt-get install libc6-dev-arm64-cross")
    qemu = need("qemu-aarch64-static", "qemu-user-static")
    package, program = compile_embed(wheel, folder, "aarch64-linux-gnu.2.17")
    answer = call(qemu, "-L", root, "-E", f"LD_LIBRARY_PATH={package / 'lib'}", program, *question(package))
    expect_answer(answer)
    return "embed_c answers under qemu"


def run_x86_64_musl(wheel: Path, folder: Path) -> str:
    loader = Path("/lib/ld-musl-x86_64.so.1")
    if not loader.exists():
        raise NotRunError(f"no {loader}: apt-get install musl")
    package, program = compile_embed(wheel, folder, "x86_64-linux-musl", "-dynamic")
    expect_answer(call(loader, "--library-path", package / "lib", program, *question(package)))
    return "embed_c answers with the loader of musl"


def run_windows(wheel: Path, folder: Path) -> str:
    """Also with a model whose path has Vietnamese letters."""
    wine = need("wine", "wine64")
    package, program = compile_embed(wheel, folder, "x86_64-windows-gnu")
    variables = os.environ | {"WINEPREFIX": str(folder / "wine"), "WINEDEBUG": "-all"}
    model, text = question(package)
    moved = folder / "mô hình tiếng Việt.gguf"
    shutil.copy(model, moved)
    for path in (model, moved):
        expect_answer(call(wine, program, path, text, variables=variables))
    return "embed_c answers under wine, also with a path of Vietnamese letters"


def run_macos(wheel: Path, folder: Path) -> str:
    """Only the symbols can be checked."""
    nm = need("llvm-nm", "llvm")
    package = extract(wheel, folder)
    library = package / "lib/libbinhdan.dylib"
    exported = call(nm, "--defined-only", "--extern-only", "--just-symbol-name", library).split()
    others = [name for name in exported if not name.startswith("_binhdan_")]
    if not exported or others:
        sys.exit(f"{library}: expected functions of the headers, got {others or 'nothing'}")
    return f"linked by zig; {len(exported)} functions exported and no other symbol; not run"


def run_nothing(wheel: Path, folder: Path) -> str:
    compile_embed(wheel, folder, "aarch64-linux-musl", "-dynamic")
    return "embed_c links; not run"


RUNNERS: dict[str, Callable[[Path, Path], str]] = {
    "(manylinux_.*|linux_)x86_64": run_natively,
    "manylinux_.*aarch64": run_aarch64_glibc,
    "musllinux_.*x86_64": run_x86_64_musl,
    "musllinux_.*aarch64": run_nothing,
    "win_amd64": run_windows,
    "macosx_.*": run_macos,
}


# ---- helpers -----------------------------------------------------------------------------------------------


def find_python(version: str) -> tuple[str, str] | None:
    """The version with its executable; uv brings a version that the system lacks, where it can."""
    name = f"python{version}"
    for command in ([name], ["uv", "run", "--no-project", "--python", version, "python"]):
        try:
            executable = call(*command, "-c", "import sys; print(sys.executable)")
        except (OSError, SystemExit):
            continue
        return version, executable
    return None


def compile_embed(wheel: Path, folder: Path, triple: str, *options: str) -> tuple[Path, Path]:
    """The package of the wheel, and embed_c beside its library."""
    package = extract(wheel, folder)
    program = package / "lib" / ("embed.exe" if "windows" in triple else "embed")
    call(
        *(sys.executable, "-m", "ziglang", "cc", "-target", triple, *options, "-O2", "-o", program),
        *(ROOT / "examples/embed_c/embed.c", f"-I{package / 'include'}", f"-L{package / 'lib'}", "-lbinhdan"),
    )
    return package, program


def extract(wheel: Path, folder: Path) -> Path:
    zipfile.ZipFile(wheel).extractall(folder / "wheel")
    return folder / "wheel/binhdan"


def question(package: Path) -> tuple[Path, str]:
    (model,) = (package / "runtime/assets").glob("*.gguf")
    return model, QUESTION


def need(program: str, debian: str) -> str:
    found = shutil.which(program)
    if not found:
        raise NotRunError(f"no {program}: apt-get install {debian}")
    return found


def expect_answer(output: str) -> None:
    if ANSWER not in output:
        sys.exit(f"expected {ANSWER!r}, got {output!r}")


def call(*command: object, variables: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, encoding="utf-8", env=variables
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def write_table(rows: dict[str, str]) -> None:
    before, _, rest = PAGE.read_text("utf-8").partition(MARKS[0])
    old, _, after = rest.partition(MARKS[1])
    if not after:
        sys.exit(f"{PAGE}: expected the marks {MARKS[0]} and {MARKS[1]}")
    kept = {match[1]: match[0] for match in re.finditer(r"^\| `(\w+)` .*$", old, re.MULTILINE)}
    lines = [text for _, text in sorted((kept | rows).items())]
    PAGE.write_text("\n".join([before + MARKS[0], HEAD, *lines, MARKS[1] + after]), "utf-8")


if __name__ == "__main__":
    main()
