"""State and limits of this machine, hashes of files and the commit of the sources: what a result records."""

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
from binhdan.bench.suite.disturbance import frequency
from binhdan.bench.suite.result import Bandwidth, Probe
from binhdan.runtime.ffi import library
from binhdan.runtime.reasons import file_reason


def probe(isa: str, threads: int, root: Path = Path("/")) -> Probe:
    """Measures the memory bandwidth with one thread and with `threads`, and the peaks of the kernel table
    `isa`: one to two seconds. Raises InvalidArgumentError for an unknown table."""
    core = library()
    counts = sorted({1, threads})
    bandwidth = [Bandwidth(threads=n, gb_per_s=core.measure_bandwidth(n) / 1e9) for n in counts]
    try:
        peaks = _native.peaks(isa, threads)
    except ValueError as error:
        raise binhdan.InvalidArgumentError(str(error)) from error
    mhz = frequency(root)  # now: the cores still run at the frequency of the computations above
    memory = meminfo(root)
    return Probe(
        architecture=platform.machine(),
        libc=" ".join(platform.libc_ver()).strip(),
        python=platform.python_version(),
        processors=os.cpu_count() or core.usable_cores(),
        cgroup_cores=cgroup_cores(root),
        cgroup_memory_bytes=cgroup_memory(root),
        memory_bytes=memory.get("MemTotal"),
        available_bytes=memory.get("MemAvailable"),
        governor=governor(root),
        mhz=mhz,
        max_mhz=max_mhz(root),
        virtual=virtual(root),
        bandwidth=tuple(bandwidth),
        peaks={name: 2 * rate / 1e9 for name, rate in peaks.items()},
    )


def meminfo(root: Path = Path("/")) -> dict[str, int]:
    """Bytes by the names of /proc/meminfo; empty when the file does not exist."""
    lines = re.findall(r"^(\w+):\s+(\d+) kB$", text_of(root / "proc/meminfo"), re.MULTILINE)
    return {name: int(kilobytes) * 1024 for name, kilobytes in lines}


def governor(root: Path = Path("/")) -> str | None:
    """The frequency governor of the cores; "performance,powersave" when cores differ."""
    files = root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor")
    return ",".join(sorted({text_of(path).strip() for path in files} - {""})) or None


def max_mhz(root: Path = Path("/")) -> float | None:
    files = root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/cpuinfo_max_freq")
    khz = [int(text) for path in files if (text := text_of(path).strip()).isdecimal()]
    return max(khz) / 1e3 if khz else None


def virtual(root: Path = Path("/")) -> bool | None:
    """Whether this is a virtual machine: the x86 flag "hypervisor", or /sys/hypervisor. None: unknown."""
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
        raise binhdan.FileReadError(file_reason(error, path)) from error


def commit_of(folder: Path = Path(__file__).parent) -> str | None:
    """The git commit of `folder`, with "+" for uncommitted changes; None outside of a checkout."""
    if shutil.which("git") is None:
        return None
    commit = _git(folder, "rev-parse", "HEAD")
    # An installed package may be inside the checkout of another project, with an unrelated commit.
    if not commit or _git(folder, "ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None
    return commit + ("+" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")


def _git(folder: Path, *arguments: str) -> str | None:
    command: Sequence[str] = ("git", "-C", str(folder), *arguments)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
