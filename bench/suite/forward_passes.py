"""Speed of forward passes alone: points of the roofline, and speed by depth."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from binhdan import _native
from binhdan.bench.micro.case import bytes_of_step
from binhdan.bench.suite.result import DepthPoint, ForwardPass
from binhdan.runtime.ffi import library
from binhdan.runtime.options import LoadOptions

_PROMPT, _DECODE = 256, 16
_SEQUENCES = (1, 4, 16)
_RUNS = 3


def measure(
    model: Path, *, threads: int, isa: str | None, gb_per_s: float, seconds: float
) -> tuple[list[ForwardPass], list[DepthPoint]]:
    """Measures ever deeper contexts until the next one would exceed `seconds`. Raises BinhdanError."""
    core = library()
    handle = core.open_model(str(model), LoadOptions(threads=threads, isa=isa))
    try:
        info = core.describe_model(handle)
        max_depth = max(info.context - max(_PROMPT, _DECODE) - 1, 0)
        prompt_tokens = min(_PROMPT, max_depth or 1)
        end = time.monotonic() + seconds
        passes = []
        for sequences in _SEQUENCES:
            profile = _native.profile(handle, threads, 0, _DECODE, 0, sequences)["decode"]
            passes.append(_forward_pass(f"decode, {sequences} together", profile, _DECODE))
        prompt = _native.profile(handle, threads, prompt_tokens, 0, 0, 1)["prefill"]
        passes.append(_forward_pass(f"prompt of {prompt_tokens}", prompt, 1))
        points: list[DepthPoint] = []
        for depth in depths(max_depth):
            began = time.monotonic()
            runs = [_native.profile(handle, threads, _PROMPT, _DECODE, depth, 1) for _ in range(_RUNS)]
            read = bytes_of_step(info, depth + _DECODE / 2)
            points.append(
                DepthPoint(
                    depth=depth,
                    prompt_tokens_per_s=_PROMPT * 1e9 / median(run["prefill"]["ns"] for run in runs),
                    decode_tokens_per_s=_DECODE * 1e9 / median(run["decode"]["ns"] for run in runs),
                    decode_limit=gb_per_s * 1e9 / read,
                )
            )
            # The next depth is twice as large and takes at least twice as long.
            if time.monotonic() + 2 * (time.monotonic() - began) > end:
                break
        return passes, points
    finally:
        core.close_model(handle)


def depths(max_depth: int) -> Sequence[int]:
    """0, the powers of two from 128 to `max_depth`, and `max_depth` itself when it is much larger."""
    found = [0, *(2**power for power in range(7, 20) if 2**power <= max_depth)]
    return [*found, max_depth] if max_depth > 1.25 * found[-1] else found


def _forward_pass(name: str, profile: Any, steps: int) -> ForwardPass:
    ops = profile["ops"]
    return ForwardPass(
        name=name,
        seconds=profile["ns"] / 1e9 / steps,
        gigabytes=sum(op["bytes"] for op in ops) / 1e9 / steps,
        giga_operations=2 * sum(op["macs"] for op in ops) / 1e9 / steps,
    )
