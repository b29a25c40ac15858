"""What machine this is: what it says of itself, and what our own probe measures."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import binhdan
from binhdan import _native
from binhdan.bench.common.cgroup import cgroup_cores, cgroup_memory
from binhdan.bench.common.files import text_of
from binhdan.bench.common.machine import this_machine
from binhdan.bench.suite.disturbance import frequency
from binhdan.bench.suite.result import Bandwidth, Machine
from binhdan.runtime.ffi import library


def probe(isa: str, threads: int, root: Path = Path("/")) -> Machine:
    """Takes a second or two: reading memory with one thread and with all, and the peaks of the kernel table
    `isa`. Raises InvalidArgumentError for a table that there is not."""
    machine, core = this_machine(), library()
    counts = sorted({1, threads})
    bandwidth = [Bandwidth(threads=n, gb_per_s=core.measure_bandwidth(n) / 1e9) for n in counts]
    try:
        peaks = _native.peaks(isa, threads)
    except ValueError as error:
        raise binhdan.InvalidArgumentError(str(error)) from error
    mhz = frequency(root)  # at once, while the cores still run as fast as they did
    memory = meminfo(root)
    return Machine(
        processor=machine.processor,
        architecture=platform.machine(),
        system=machine.system,
        libc=" ".join(platform.libc_ver()).strip(),
        python=platform.python_version(),
        cores=machine.cores,
        processors=os.cpu_count() or machine.cores,
        cgroup_cores=cgroup_cores(root),
        cgroup_memory_bytes=cgroup_memory(root),
        memory_bytes=memory.get("MemTotal"),
        available_bytes=memory.get("MemAvailable"),
        governor=governor(root),
        mhz=mhz,
        most_mhz=most_mhz(root),
        virtual=virtual(root),
        kernels=machine.kernels,
        bandwidth=tuple(bandwidth),
        peaks={name: 2 * rate / 1e9 for name, rate in peaks.items()},
    )


def meminfo(root: Path = Path("/")) -> dict[str, int]:
    """Bytes by the names of /proc/meminfo; empty where there is none."""
    lines = re.findall(r"^(\w+):\s+(\d+) kB$", text_of(root / "proc/meminfo"), re.MULTILINE)
    return {name: int(kilobytes) * 1024 for name, kilobytes in lines}


def governor(root: Path = Path("/")) -> str | None:
    """Of the cores' frequency; "performance,powersave" when they differ."""
    files = root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor")
    return ",".join(sorted({text_of(path).strip() for path in files} - {""})) or None


def most_mhz(root: Path = Path("/")) -> float | None:
    files = root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/cpuinfo_max_freq")
    khz = [int(text) for path in files if (text := text_of(path).strip()).isdecimal()]
    return max(khz) / 1e3 if khz else None


def virtual(root: Path = Path("/")) -> bool | None:
    """x86 says so by a flag; elsewhere the device tree or the firmware may."""
    flags = re.search(r"^flags\s*:(.*)$", text_of(root / "proc/cpuinfo"), re.MULTILINE)
    if flags:
        return "hypervisor" in flags[1].split()
    return True if (root / "sys/hypervisor/type").exists() else None


def sha256_of(path: Path) -> str:
    """Raises FileReadError."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise binhdan.FileReadError(f"{path}: {error.strerror}") from error


def commit_of(folder: Path) -> str | None:
    """The commit of the sources in `folder`, with "+" for changes; None where that is no git checkout."""
    if shutil.which("git") is None:
        return None
    commit = _git(folder, "rev-parse", "HEAD")
    # An installed package may lie inside somebody's own checkout: then the commit would be theirs.
    if not commit or _git(folder, "ls-files", "--error-unmatch", "probe.py") is None:
        return None
    return commit + ("+" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")


def _git(folder: Path, *arguments: str) -> str | None:
    command: Sequence[str] = ("git", "-C", str(folder), *arguments)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
