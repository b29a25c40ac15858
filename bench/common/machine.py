"""What a figure was measured on."""

from __future__ import annotations

import platform
import resource
import sys
from dataclasses import dataclass

from binhdan.runtime.ffi import library


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What this machine says of itself; a virtual one may hide its name."""

    processor: str
    cores: int  # that this process may use
    kernels: tuple[str, ...]  # binhdan's tables that run here, best last
    system: str


def peak_rss_bytes(usage: resource.struct_rusage) -> int:
    """The most memory that a process held: macOS counts bytes, other systems KiB."""
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def this_machine() -> Machine:
    from binhdan import _native

    return Machine(
        processor=library().cpu_name() or platform.machine(),
        cores=library().usable_cores(),
        kernels=tuple(_native.isas()),
        system=f"{platform.system()} {platform.release()}",
    )
