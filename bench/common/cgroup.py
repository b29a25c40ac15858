"""Limits of Linux control groups (version 1 or 2) on this process."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from binhdan.bench.common.files import number_in, text_of

# Version 1 reports a number near 2^63 for "no limit".
_NO_LIMIT = 1 << 60


def cgroup_folders(root: Path, controller: str) -> Iterator[Path]:
    """The visible folders of this process's group and its parent groups, innermost first."""
    mount = root / "sys/fs/cgroup"
    for line in text_of(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and controller not in controllers.split(","):
            continue
        base = mount / controllers if controllers else mount
        if controllers and not base.is_dir():
            base = mount / controller
        parts = [part for part in path.split("/") if part not in ("", ".", "..")]
        for length in range(len(parts), -1, -1):
            folder = base.joinpath(*parts[:length])
            if folder.is_dir():
                yield folder


def cgroup_cores(root: Path = Path("/")) -> float | None:
    """The tightest quota of processor time, in cores; None without a quota."""
    quotas = []
    for folder in cgroup_folders(root, "cpu"):
        if found := re.fullmatch(r"(\d+) (\d+)\s*", text_of(folder / "cpu.max")):
            quotas.append(int(found[1]) / max(int(found[2]), 1))
        quota = number_in(folder / "cpu.cfs_quota_us")
        period = number_in(folder / "cpu.cfs_period_us")
        if quota is not None and period:
            quotas.append(quota / period)
    return min(quotas, default=None)


def cgroup_memory(root: Path = Path("/")) -> int | None:
    """The tightest limit of memory, in bytes; None without a limit."""
    names = ("memory.max", "memory.limit_in_bytes")
    limits = [number_in(folder / name) for folder in cgroup_folders(root, "memory") for name in names]
    return min((limit for limit in limits if limit is not None and limit < _NO_LIMIT), default=None)
