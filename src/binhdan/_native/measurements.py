"""Time of the operations of the forward pass, and peaks of this machine."""

from __future__ import annotations

from typing import Any, TypedDict

from binhdan._native.arguments import c_string, check, ffi, lib, string
from binhdan.runtime.options import KvType


class _Op(TypedDict):
    name: str  # "qkv", "attention", ...; "wait" is the time in barriers
    calls: int
    ns: int  # of one thread
    bytes: int  # of weights, keys and values that all threads together read
    macs: int  # multiply-adds of all threads


class _Pass(TypedDict):
    ns: int
    ops: list[_Op]


class _Profile(TypedDict):
    prefill: _Pass
    decode: _Pass


def _measured_pass(measured: Any) -> _Pass:
    ops: list[_Op] = [
        {"name": string(op.name), "calls": op.calls, "ns": op.ns, "bytes": op.bytes, "macs": op.macs}
        for op in measured.ops[0 : measured.n_ops]
    ]
    return {"ns": measured.ns, "ops": ops}


def profile(
    model: int,
    threads: int,
    prompt_tokens: int,
    decode_tokens: int,
    depth: int = 0,
    sequences: int = 1,
    kv_type: KvType = "f16",
) -> _Profile:
    """Time of each operation of the forward pass after a warm-up: prefill of one sequence, and decode steps
    of `sequences` sequences. All start after `depth` positions without content."""
    passes = ffi.new("binhdan_tools_pass[2]")
    check(
        lib.binhdan_tools_profile(
            model,
            threads,
            prompt_tokens,
            decode_tokens,
            depth,
            sequences,
            c_string(kv_type),
            passes,
            passes + 1,
        )
    )
    return {"prefill": _measured_pass(passes[0]), "decode": _measured_pass(passes[1])}


def peaks(isa: str, threads: int) -> dict[str, float]:
    """Multiply-adds per second that `threads` threads reach in registers, for each format of activations that
    the table uses: "q8", "f32", "bf16". Takes about 0.2 s per format."""
    rate = ffi.new("double *")
    found: dict[str, float] = {}
    for name in ("f32", "q8", "bf16"):
        check(lib.binhdan_tools_peak(c_string(isa), c_string(name), threads, rate))
        if rate[0] > 0:
            found[name] = rate[0]
    return found


# Name and version of the compiler of the core.
compiler: str = string(lib.binhdan_tools_compiler())
