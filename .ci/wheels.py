#!/usr/bin/env python3
"""Builds wheels for other platforms on Linux: .ci/wheels.py [--out FOLDER] [PLATFORM...]

One wheel of a platform serves every Python from 3.11 on (py3-none-PLATFORM). The compiler is the Clang of the
PyPI package ziglang, which has the C libraries of all platforms: glibc 2.17, musl, MinGW and macOS. libc++ is
linked statically. The size and, for Linux, the platform (with auditwheel) are checked.

Needs: pip install ziglang wheel auditwheel
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import ziglang
from elftools.elf.elffile import ELFFile

ROOT = Path(__file__).resolve().parents[1]
MAX_BYTES = 19_000_000  # the aim is 15 MB; the embedded model and the restorer have 16 MB


@dataclass(frozen=True)
class Platform:
    tag: str  # of the wheel
    triple: str  # of zig
    system: str  # CMAKE_SYSTEM_NAME
    processor: str  # CMAKE_SYSTEM_PROCESSOR


PLATFORMS = (
    Platform("manylinux_2_17_x86_64", "x86_64-linux-gnu.2.17", "Linux", "x86_64"),
    Platform("manylinux_2_17_aarch64", "aarch64-linux-gnu.2.17", "Linux", "aarch64"),
    Platform("musllinux_1_2_x86_64", "x86_64-linux-musl", "Linux", "x86_64"),
    Platform("musllinux_1_2_aarch64", "aarch64-linux-musl", "Linux", "aarch64"),
    Platform("win_amd64", "x86_64-windows-gnu", "Windows", "x86_64"),
    Platform("macosx_11_0_arm64", "aarch64-macos.11.0", "Darwin", "arm64"),
    Platform("macosx_11_0_x86_64", "x86_64-macos.11.0", "Darwin", "x86_64"),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    parser.add_argument("platforms", nargs="*", metavar="PLATFORM", help="default: all")
    arguments = parser.parse_args()
    known = {platform.tag: platform for platform in PLATFORMS}
    unknown = [tag for tag in arguments.platforms if tag not in known]
    if unknown:
        sys.exit(f"expected platforms of {', '.join(known)}; got {', '.join(unknown)}")
    for tag in arguments.platforms or known:
        wheel = build(known[tag], arguments.out)
        check(known[tag], wheel)
        print(f"{wheel}: {wheel.stat().st_size / 1e6:.1f} MB", flush=True)


def build(platform: Platform, out: Path) -> Path:
    build_dir = (
        ROOT / "build" / f"wheel-{platform.tag}"
    )  # kept, so that a second run compiles only changed files
    build_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        compilers = {
            name: script(build_dir, name, f"{name} -target {platform.triple}") for name in ("cc", "c++")
        }
        tools = {name: script(build_dir, name, name) for name in ("ar", "ranlib")}
        defines = {
            "CMAKE_SYSTEM_NAME": platform.system,
            "CMAKE_SYSTEM_PROCESSOR": platform.processor,
            "CMAKE_C_COMPILER": compilers["cc"],
            "CMAKE_CXX_COMPILER": compilers["c++"],
            "CMAKE_AR": tools["ar"],
            "CMAKE_RANLIB": tools["ranlib"],
            "CMAKE_C_FLAGS": "-g0",  # zig adds debug information by default
            "CMAKE_CXX_FLAGS": "-g0",
            "CMAKE_SHARED_LINKER_FLAGS": "-s",
        }
        settings = {f"cmake.define.{name}": str(value) for name, value in defines.items()}
        settings["build-dir"] = str(build_dir)
        options = [f"-C{name}={value}" for name, value in settings.items()]
        pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", folder]
        subprocess.run([*pip, *options, str(ROOT)], check=True)
        (built,) = Path(folder).glob("*.whl")
        name = subprocess.run(
            [sys.executable, "-m", "wheel", "tags", "--remove", "--platform-tag", platform.tag, str(built)],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        out.mkdir(parents=True, exist_ok=True)
        wheel = out / name
        wheel.write_bytes((Path(folder) / name).read_bytes())
        return wheel


def script(folder: Path, name: str, command: str) -> Path:
    path = folder / f"zig-{name}"
    zig = Path(ziglang.__file__).parent / "zig"
    path.write_text(f'#!/bin/sh\nexec "{zig}" {command} "$@"\n')
    path.chmod(0o755)
    return path


def check(platform: Platform, wheel: Path) -> None:
    """Ends the program if the wheel is too large, has a file for one Python, or needs a newer C library."""
    size = wheel.stat().st_size
    if size > MAX_BYTES:
        sys.exit(f"{wheel.name}: expected at most {MAX_BYTES / 1e6:g} MB, got {size / 1e6:.1f} MB")
    names = zipfile.ZipFile(wheel).namelist()
    if any(".cpython-" in name or name.endswith(".pyd") for name in names):
        sys.exit(f"{wheel.name}: expected no file for one Python version, got {names}")
    if "musl" in platform.triple:
        check_musl(wheel)
    elif platform.system == "Linux":
        shown = subprocess.run(
            [sys.executable, "-m", "auditwheel", "show", str(wheel)],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        if f'"{platform.tag}"' not in shown:  # the name of the wheel has the tag without the quotes
            sys.exit(f"{wheel.name}: auditwheel does not accept the platform tag\n{shown}")


def check_musl(wheel: Path) -> None:
    """As auditwheel, which fails where the libc.so of another C library of this processor is installed."""
    with zipfile.ZipFile(wheel) as archive, archive.open("binhdan/lib/libbinhdan.so") as library:
        dynamic = ELFFile(io.BytesIO(library.read())).get_section_by_name(".dynamic")
        needed = [tag.needed for tag in dynamic.iter_tags("DT_NEEDED")]
    if needed != ["libc.so"]:
        sys.exit(f"{wheel.name}: expected that its library needs libc.so only, got {needed}")


if __name__ == "__main__":
    main()
