#!/usr/bin/env python3
"""Runs wheels of all platforms on Linux: .ci/run_wheels.py FOLDER [--write]

Each wheel in FOLDER is run as far as this machine can. A wheel for glibc is installed with pip in a new
Debian system without a compiler, for aarch64 under qemu, and one for this machine also for each Python from
3.11 on. For musl and Windows, examples/embed_c is compiled against the wheel's library and answers with the
loader of musl, under qemu, or under wine. --write puts the table into docs/embedding.md; rows of wheels that
are not in FOLDER stay.

Needs: pip install ziglang wheel; Debian: debootstrap, qemu-user-static, musl, wine64, llvm. The kernel must
start qemu for programs of ARM, which systemd arranges. Without it, as root:
mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
cat /usr/lib/binfmt.d/qemu-aarch64.conf >/proc/sys/fs/binfmt_misc/register
A wheel that cannot be run counts as not run.
"""

from __future__ import annotations

import argparse
import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/embedding.md"
MARKS = ("<!-- wheels: table -->", "<!-- end wheels -->")
HEAD = "| wheel | MB | what was run |\n| --- | ---: | --- |"
QUESTION, ANSWER = "them dau: ha noi la thu do cua viet nam", "hà nội là thủ đô của việt nam"
VERSIONS = ("3.11", "3.12", "3.13", "3.14")
# Debian 13 has Python 3.13. Its programs need a newer qemu than that of Debian 12, which has Python 3.11.
RELEASES = {"amd64": "trixie", "arm64": "bookworm"}
# zig's linker for macOS takes no list of exported symbols and exports weak ones: operators new and delete.
ZIG_EXPORTS = re.compile(r"__Z(n[aw]|d[al])\w+|___dso_handle|__mh_dylib_header")
SYSTEM_VARIABLES = {"HOME": "/root", "PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8"}


systems = Path()  # the folder of the new Debian systems


class NotRunError(Exception):
    """This machine lacks what the wheel needs."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--systems", type=Path, metavar="FOLDER", help="keeps the new Debian systems there")
    arguments = parser.parse_args()
    wheels = sorted(arguments.folder.glob("*.whl"))
    if not wheels:
        sys.exit(f"{arguments.folder}: expected wheels of .ci/wheels.py")
    with tempfile.TemporaryDirectory() as temporary:
        global systems
        systems = (arguments.systems or Path(temporary)).resolve()
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
    seconds = 0.0
    for version, python in pythons:
        environment = folder / version
        call(python, "-m", "venv", environment)
        start = time.monotonic()
        call(environment / "bin/pip", "install", "-q", wheel)
        seconds = max(seconds, time.monotonic() - start)
        home = folder / f"home-{version}"
        home.mkdir()
        # Neither a compiler nor a setting of the user can help: PATH has the environment only.
        variables = {"HOME": str(home), "PATH": str(environment / "bin"), "LC_ALL": "C.UTF-8"}
        expect_answer(call(environment / "bin/binhdan", "ask", QUESTION, variables=variables))
    names = ", ".join(version for version, _ in pythons)
    result = f"`pip install` ({seconds:.0f} s) and `binhdan ask` with Python {names}"
    try:
        return f"{result}; {run_in_new_system(wheel, 'amd64')}"
    except NotRunError as error:
        print(f"{wheel.name}: no new system: {error}", file=sys.stderr)
        return result


def run_in_new_system(wheel: Path, architecture: str) -> str:
    """Debian without a compiler, in a chroot. Its packages of Python come from a folder of wheels."""
    system = new_system(architecture)
    packages = system / "packages"
    shutil.rmtree(packages, ignore_errors=True)
    packages.mkdir()
    shutil.copy(wheel, packages)
    in_system = functools.partial(call, "chroot", system, variables=SYSTEM_VARIABLES)
    version = in_system("python3", "-c", "import sys; print(*sys.version_info[:2], sep='.')")
    download = [sys.executable, "-m", "pip", "download", "-q", "--only-binary=:all:", "--dest", packages]
    machine = {"amd64": "x86_64", "arm64": "aarch64"}[architecture]
    for platform in ("2_17", "2_28"):
        download += ["--platform", f"manylinux_{platform}_{machine}"]
    call(*download, "--python-version", version, "cffi>=1.16", "jinja2>=3.1.5")
    in_system("python3", "-m", "venv", "--clear", "/app")
    install = ["/app/bin/pip", "install", "-q", "--no-index", "--find-links", "/packages"]
    in_system(*install, f"/packages/{wheel.name}")
    if any((system / "usr/bin" / name).exists() for name in ("cc", "gcc", "g++", "clang")):
        sys.exit(f"{system}: expected a system without a compiler")
    expect_answer(in_system("/app/bin/binhdan", "ask", QUESTION))
    return f"`pip install` and `binhdan ask` with Python {version} in a new Debian system without a compiler"


def new_system(architecture: str) -> Path:
    """A folder with Debian, Python, pip and the loader of musl, made once. It takes minutes."""
    if os.getuid() != 0:
        raise NotRunError("debootstrap needs root")
    if architecture == "arm64" and not Path("/proc/sys/fs/binfmt_misc/qemu-aarch64").exists():
        raise NotRunError("the kernel does not start qemu-aarch64 (binfmt_misc)")
    debootstrap, system = need("debootstrap", "debootstrap"), systems / architecture
    if not system.exists():
        part = system.with_suffix(".part")  # a folder of this name is what a killed run left
        shutil.rmtree(part, ignore_errors=True)
        options = ["--variant=minbase", f"--arch={architecture}", "--include=python3-venv,musl"]
        call(debootstrap, *options, RELEASES[architecture], part)
        part.rename(system)
    return system


def run_aarch64_glibc(wheel: Path, folder: Path) -> str:
    return f"under qemu: {run_in_new_system(wheel, 'arm64')}"


def run_x86_64_musl(wheel: Path, folder: Path) -> str:
    loader = Path("/lib/ld-musl-x86_64.so.1")
    if not loader.exists():
        raise NotRunError(f"no {loader}: apt-get install musl")
    package, program = compile_embed(wheel, folder, "x86_64-linux-musl", "-dynamic")
    expect_answer(call(loader, "--library-path", package / "lib", program, *question(package)))
    return "embed_c answers with the loader of musl"


def run_aarch64_musl(wheel: Path, folder: Path) -> str:
    qemu = need("qemu-aarch64-static", "qemu-user-static")
    package, program = compile_embed(wheel, folder, "aarch64-linux-musl", "-dynamic")
    loader = new_system("arm64") / "lib/ld-musl-aarch64.so.1"
    expect_answer(call(qemu, loader, "--library-path", package / "lib", program, *question(package)))
    return "embed_c answers with the loader of musl under qemu"


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
    functions = [name for name in exported if name.startswith("_binhdan_")]
    others = [name for name in set(exported).difference(functions) if not ZIG_EXPORTS.fullmatch(name)]
    if not functions or others:
        sys.exit(f"{library}: expected functions of the headers, got {others or 'nothing'}")
    return f"linked by zig; {len(functions)} functions exported, and operators new and delete; not run"


RUNNERS: dict[str, Callable[[Path, Path], str]] = {
    "(manylinux_.*|linux_)x86_64": run_natively,
    "manylinux_.*aarch64": run_aarch64_glibc,
    "musllinux_.*x86_64": run_x86_64_musl,
    "musllinux_.*aarch64": run_aarch64_musl,
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
    libraries = package / "lib"
    program = libraries / ("embed.exe" if "windows" in triple else "embed")
    # zig does not look for an import library of this name.
    link = [libraries / "libbinhdan.dll.a"] if "windows" in triple else [f"-L{libraries}", "-lbinhdan"]
    call(
        *(sys.executable, "-m", "ziglang", "cc", "-target", triple, *options, "-O2", "-o", program),
        *(ROOT / "examples/embed_c/embed.c", f"-I{package / 'include'}", *link),
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
