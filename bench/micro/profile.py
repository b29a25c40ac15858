"""Where the time of a forward pass goes, and how far each operation is from the machine's limits.

An operation can be no faster than its bytes come from memory, nor than its multiply-adds run in registers.
The longer of these two times, over the time it took, is its share of the limit. Both are measured here:
as many threads reading memory, and the kernel table's fastest multiply-adds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import binhdan
from binhdan import _native
from binhdan.bench.micro.case import Workload
from binhdan.runtime.ffi import library
from binhdan.runtime.options import KvType, LoadOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    gb_per_s: float  # read from memory
    gops: float  # 10^9 multiplications and additions per second; 0 when the table does not say

    def least_ms(self, gigabytes: float, giga_operations: float) -> float:
        """No machine with these limits is faster."""
        computing = giga_operations / self.gops if self.gops else 0.0
        return max(gigabytes / self.gb_per_s, computing) * 1e3


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation in all layers, in one pass."""

    name: str
    calls: int
    ms: float  # on one thread; "wait" is what it waited for the others
    gb_per_s: float  # of weights, keys and values
    gops: float
    limit_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """A whole prompt, or one step of decoding, which is the mean of many."""

    ms: float
    operations: list[Operation]


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    workload: Workload
    isa: str
    kv_type: KvType
    limits: Limits
    prompt: Pass | None
    decode: Pass | None


def profile(workload: Workload, isa: str | None = None, kv_type: KvType = "f16") -> Profile:
    """Raises BinhdanError for a model or kernels that cannot be."""
    core, threads = library(), workload.threads
    model = core.open_model(str(workload.model), LoadOptions(threads=threads, isa=isa))
    try:
        table = core.describe_model(model).isa
        peaks = _native.peaks(table, threads)
        limits = Limits(
            gb_per_s=core.measure_bandwidth(threads) / 1e9, gops=2 * max(peaks.values(), default=0.0) / 1e9
        )
        try:
            passes = _native.profile(
                model, threads, workload.prompt, workload.decode, workload.depth, workload.sequences, kv_type
            )
        except ValueError as error:
            raise binhdan.InvalidArgumentError(str(error)) from error
    finally:
        core.close_model(model)
    return Profile(
        workload=workload,
        isa=table,
        kv_type=kv_type,
        limits=limits,
        prompt=_pass(passes["prompt"], 1, limits) if workload.prompt else None,
        decode=_pass(passes["decode"], workload.decode, limits) if workload.decode else None,
    )


def _pass(measured: Any, steps: int, limits: Limits) -> Pass:
    operations = [_operation(op, steps, limits) for op in measured["ops"] if op["calls"]]
    return Pass(ms=measured["ns"] / steps / 1e6, operations=operations)


def _operation(op: Any, steps: int, limits: Limits) -> Operation:
    seconds = max(op["ns"], 1) / 1e9
    gigabytes, giga_operations = op["bytes"] / 1e9, 2 * op["macs"] / 1e9
    return Operation(
        name=op["name"],
        calls=op["calls"] // steps,
        ms=seconds * 1e3 / steps,
        gb_per_s=gigabytes / seconds,
        gops=giga_operations / seconds,
        limit_share=limits.least_ms(gigabytes, giga_operations) / (seconds * 1e3),
    )
