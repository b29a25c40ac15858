"""Predicts the speed of a model on a board from its data: a model, not a measurement.

    prefill   a token takes its multiply-adds over the rate of the loops of all cores, and OTHER more
    decode    a token takes the time of reading weights, keys and values from memory, and that of computing

A core that reads and computes overlaps the two little: `bench predict --here` shows it. Several cores may
overlap more, so the prediction of decode is careful.

The rates of the loops come from a static analysis (llvm-mca), which csrc/kernels/*/matmul.cpp documents, or
from a measurement of the kernels alone (`measured_rates`), which checks the method on this machine.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from binhdan import _native
from binhdan.bench.boards.work import Work
from binhdan.bench.micro.kernel_rate import kernel_rate
from binhdan.runtime.cost.figures import Board
from binhdan.runtime.errors import UnsupportedError

# Of the time of the matrix products: attention, norms, barriers and the rest of a forward pass.
OTHER = 0.15
# Of the peak in the data sheet that reads of all cores reach. Assumed: llama.cpp's published 34 tokens/s of
# Qwen2.5-0.5B in Q4_0 on a Raspberry Pi 5 read 0.28 to 0.35 GB a token, 56 to 69 % of 17.1 GB/s.
READ_SHARE = 0.6
# Of a panel block that a decoded row needs: 16 rows, 32 columns.
BLOCK_MACS = 512


@dataclass(frozen=True, slots=True)
class Loop:
    """A core's multiply-adds in a cycle, of one tensor type."""

    prefill: float
    decode: float


def _loop(prefill: float, cycles: float) -> Loop:
    return Loop(prefill, BLOCK_MACS / cycles)


# Of bench/results/arm-loops.json, which bench/boards/loops.py makes: Cortex-A72, and Neoverse N1, the server
# variant of Cortex-A76.
LOOPS = {
    "cortex-a72": {
        "Q4_0": _loop(7.1, 83),
        "Q8_0": _loop(6.7, 84),
        "Q4_K": _loop(6.9, 116),
        "Q6_K": _loop(6.5, 172),
    },
    "cortex-a76": {
        "Q4_0": _loop(23.2, 44),
        "Q8_0": _loop(23.2, 27),
        "Q4_K": _loop(20.4, 77),
        "Q6_K": _loop(17.6, 125),
    },
}
# Types that are not analyzed take the rate of one with as many scales.
_SIMILAR = {
    "Q5_K": "Q4_K",
    "Q4_1": "Q4_K",
    "Q5_0": "Q4_0",
    "Q5_1": "Q4_K",
    "IQ4_NL": "Q4_0",
    "Q3_K": "Q6_K",
    "Q2_K": "Q6_K",
}


@dataclass(slots=True, kw_only=True)
class Rates:
    """What a machine can do: multiply-adds a second of all cores by type, and bytes a second from memory."""

    prefill: dict[str, float]
    decode: dict[str, float]
    bytes_per_s: float
    source: str
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """Tokens per second at a context of `depth` tokens."""

    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    decode_bound: str  # what takes longer: "memory" or "cores"
    gb_per_token: float
    depth: int
    notes: list[str]


def predict(work: Work, rates: Rates, depth: int) -> Prediction:
    """Raises UnsupportedError for a tensor type without a rate."""
    missing = {product.type for product in work.products} - rates.prefill.keys()
    # Small floating-point matrices are left out; a model of them needs a rate.
    if (left := sum(p.macs for p in work.products if p.type in missing)) > 0.02 * work.macs(prefill=False):
        raise UnsupportedError(
            f"{work.name}: expected tensors of the types {', '.join(sorted(rates.prefill))}, got "
            f"{', '.join(sorted(missing))} in {left / work.macs(prefill=False):.0%} of the multiply-adds"
        )
    products = [product for product in work.products if product.type not in missing]
    prefill = sum(p.macs / rates.prefill[p.type] for p in products if p.in_prefill) * (1 + OTHER)
    computing = sum(p.macs / rates.decode[p.type] for p in products) * (1 + OTHER)
    read = work.weight_bytes + work.kv_bytes * depth
    reading = read / rates.bytes_per_s
    return Prediction(
        prefill_tokens_per_s=1 / prefill,
        decode_tokens_per_s=1 / (computing + reading),
        decode_bound="memory" if reading >= computing else "cores",
        gb_per_token=read / 1e9,
        depth=depth,
        notes=rates.notes,
    )


def board_rates(board: Board) -> Rates:
    """Raises UnsupportedError for a board without [hardware], or whose cores have no analyzed loops."""
    if board.hardware is None:
        raise UnsupportedError(f"{board.name}: the board's file has no [hardware]; add it, or measure there")
    big = board.hardware.cores[0]  # as the library: one thread for each big core
    loops = LOOPS.get(big.kind)
    if loops is None:
        raise UnsupportedError(
            f"{board.name}: expected cores of one of {', '.join(LOOPS)}, got {big.kind}; "
            "run binhdan bench board there"
        )
    cycles = big.count * big.ghz * 1e9
    all_loops = loops | {kind: loops[other] for kind, other in _SIMILAR.items()}
    return Rates(
        prefill={kind: loop.prefill * cycles for kind, loop in all_loops.items()},
        decode={kind: loop.decode * cycles for kind, loop in all_loops.items()},
        bytes_per_s=board.hardware.memory_gb_per_s * 1e9 * READ_SHARE,
        source=f"{big.count} x {big.kind} at {big.ghz} GHz, {board.hardware.memory}",
        notes=["a model from data sheets and a static analysis of the loops, not a measurement"],
    )


def measured_rates(work: Work, isa: str, threads: int, bytes_per_s: float, seconds: float = 0.3) -> Rates:
    """From the matrix kernels of this machine alone, on one thread, times `threads`."""
    prefill, decode = {}, {}
    for kind in {product.type for product in work.products if product.type in _native.dtypes()}:
        prefill[kind] = threads * kernel_rate(isa, kind, 64, 1024, 1024, True, seconds)
        # A matrix that fits in the core's caches: reading memory is the other limit.
        decode[kind] = threads * kernel_rate(isa, kind, 1, 256, 1024, False, seconds)
    return Rates(
        prefill=prefill, decode=decode, bytes_per_s=bytes_per_s, source=f"the kernels of `{isa}` alone"
    )


def describe(name: str, board: str, prediction: Prediction, source: str) -> str:
    """Text for a terminal."""
    lines = [
        f"{Path(name).name} on {board} ({source})",
        f"  prefill  {prediction.prefill_tokens_per_s:8.1f} tokens/s   predicted",
        f"  decode   {prediction.decode_tokens_per_s:8.1f} tokens/s   predicted, mostly by "
        f"{prediction.decode_bound}, {prediction.gb_per_token:.2f} GB at {prediction.depth} tokens",
    ]
    return "\n".join([*lines, *(f"  {note}" for note in prediction.notes)])
