"""Time of a forward pass by operation, and how close each operation is to the limits of the machine.

Two limits are measured: memory bandwidth with the same threads, and the kernel table's multiply-adds in
registers. An operation takes at least as long as the slower of reading its bytes and computing its
multiply-adds. This minimum over the measured time is its share of the limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import binhdan
from binhdan import _native
from binhdan.bench.common.machine import Machine, this_machine
from binhdan.bench.micro.case import Case
from binhdan.runtime.ffi import library
from binhdan.runtime.options import KvType, LoadOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    gb_per_s: float  # read from memory
    gops: float  # 10^9 multiplications and additions per second; 0: the table has no peak

    def min_ms(self, gigabytes: float, giga_operations: float) -> float:
        """The shortest possible time under these limits."""
        computing = giga_operations / self.gops if self.gops else 0.0
        return max(gigabytes / self.gb_per_s, computing) * 1e3


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation, summed over the layers of one pass."""

    name: str
    calls: int
    ms: float  # of one thread; operation "wait": waiting at barriers for the other threads
    gb_per_s: float  # of weights, keys and values
    gops: float
    limit_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """A whole prompt, or one decode step (the mean of all measured steps)."""

    ms: float
    operations: list[Operation]


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    machine: Machine
    case: Case
    isa: str
    kv_type: KvType
    limits: Limits
    prompt: Pass | None
    decode: Pass | None


def profile(case: Case, isa: str | None = None, kv_type: KvType = "f16") -> Profile:
    """Raises BinhdanError for a bad model file, unknown kernels or sizes out of range."""
    core, threads = library(), case.threads
    model = core.open_model(str(case.model), LoadOptions(threads=threads, isa=isa))
    try:
        table = core.describe_model(model).isa
        peaks = _native.peaks(table, threads)
        limits = Limits(
            gb_per_s=core.measure_bandwidth(threads) / 1e9, gops=2 * max(peaks.values(), default=0.0) / 1e9
        )
        try:
            passes = _native.profile(
                model, threads, case.prompt, case.decode, case.depth, case.sequences, kv_type
            )
        except ValueError as error:
            raise binhdan.InvalidArgumentError(str(error)) from error
    finally:
        core.close_model(model)
    return Profile(
        machine=this_machine(),
        case=case,
        isa=table,
        kv_type=kv_type,
        limits=limits,
        prompt=_pass(passes["prefill"], 1, limits) if case.prompt else None,
        decode=_pass(passes["decode"], case.decode, limits) if case.decode else None,
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
        limit_share=limits.min_ms(gigabytes, giga_operations) / (seconds * 1e3),
    )
