"""Forward passes alone, for the roofline and for the speed over the context."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from binhdan import _native
from binhdan.bench.micro.case import bytes_of_step
from binhdan.bench.suite.result import ContextPoint, Work
from binhdan.runtime.ffi import library
from binhdan.runtime.options import LoadOptions

_PROMPT, _DECODE = 256, 16
_SEQUENCES = (1, 4, 16)
_RUNS = 3


def measure(
    model: Path, *, threads: int, isa: str | None, gb_per_s: float, seconds: float
) -> tuple[list[Work], list[ContextPoint]]:
    """Stops at the depth after which `seconds` are over. Raises BinhdanError."""
    core = library()
    handle = core.open_model(str(model), LoadOptions(threads=threads, isa=isa))
    try:
        info = core.describe_model(handle)
        room = max(info.context - max(_PROMPT, _DECODE) - 1, 0)
        end = time.monotonic() + seconds
        work = []
        for sequences in _SEQUENCES:
            taken = _native.profile(handle, threads, 0, _DECODE, 0, sequences)["decode"]
            work.append(_work(f"decode, {sequences} together", taken, _DECODE))
        prompt = _native.profile(handle, threads, min(_PROMPT, room or 1), 0, 0, 1)["prompt"]
        work.append(_work(f"prompt of {min(_PROMPT, room or 1)}", prompt, 1))
        points: list[ContextPoint] = []
        for depth in depths(room):
            began = time.monotonic()
            runs = [_native.profile(handle, threads, _PROMPT, _DECODE, depth, 1) for _ in range(_RUNS)]
            read = bytes_of_step(info, depth + _DECODE / 2)
            points.append(
                ContextPoint(
                    depth=depth,
                    prompt_tokens_per_s=_PROMPT * 1e9 / median(run["prompt"]["ns"] for run in runs),
                    decode_tokens_per_s=_DECODE * 1e9 / median(run["decode"]["ns"] for run in runs),
                    decode_limit=gb_per_s * 1e9 / read,
                )
            )
            # The next depth is twice as far, and takes at least twice as long.
            if time.monotonic() + 2 * (time.monotonic() - began) > end:
                break
        return work, points
    finally:
        core.close_model(handle)


def depths(room: int) -> Sequence[int]:
    """0, and powers of two up to the room that there is; its end too, where it lies well beyond."""
    found = [0, *(2**power for power in range(7, 20) if 2**power <= room)]
    return [*found, room] if room > 1.25 * found[-1] else found


def _work(name: str, taken: Any, steps: int) -> Work:
    ops = taken["ops"]
    return Work(
        name=name,
        seconds=taken["ns"] / 1e9 / steps,
        gigabytes=sum(op["bytes"] for op in ops) / 1e9 / steps,
        giga_operations=2 * sum(op["macs"] for op in ops) / 1e9 / steps,
    )
