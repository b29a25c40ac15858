"""The machine on which a figure was measured."""

from __future__ import annotations

import platform
import resource
import sys
from dataclasses import dataclass

from binhdan.runtime.ffi import library


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The machine as it reports itself. A virtual machine may hide the name of its processor."""

    processor: str
    cores: int  # that this process may use
    kernels: tuple[str, ...]  # kernel tables of binhdan that this machine can run, fastest last
    system: str


def peak_rss_bytes(usage: resource.struct_rusage) -> int:
    """Peak resident memory of a process. macOS reports bytes, other systems KiB."""
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def this_machine() -> Machine:
    from binhdan import _native

    return Machine(
        processor=library().cpu_name() or platform.machine(),
        cores=library().usable_cores(),
        kernels=tuple(_native.isas()),
        system=f"{platform.system()} {platform.release()}",
    )
