"""`binhdan bench kernels --check`: every operation of a kernel table, compared with the `scalar` table.

Sizes have tails that fill no panel and no vector, and some inputs are hostile: huge and tiny numbers,
infinities and NaN, in activations and in the scales of weights. docs/porting.md describes the checks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from binhdan import _native
from binhdan.bench.micro.kernel_rate import kernel_rate
from binhdan.runtime.errors import InvalidArgumentError
from binhdan.runtime.options import KvType

Array = npt.NDArray[Any]
ORACLE = "scalar"
# Rounding of float32 sums, relative to the sum of magnitudes. Tables that round to bfloat16 (amx): of their
# prefill and attention.
EXACT, BFLOAT16 = 2e-5, 2.0**-6
_ROUNDS_TO_BFLOAT16 = {"amx"}
_SIZES = ((1, 256, 1), (17, 512, 5), (45, 768, 33))  # weight rows, columns, activation rows
_LENGTHS = (1, 7, 32, 33, 896, 1037)
_TOKENS = (1, 63, 64, 65, 512)
_FUNCTIONS = ("silu", "gelu_tanh", "gelu", "relu2", "sigmoid")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One operation of one table. `failures` describe the first few wrong results."""

    isa: str
    operation: str
    cases: int
    failures: list[str]


@dataclass(frozen=True, slots=True)
class _Case:
    name: str
    got: Array
    want: Array
    scale: Array | float  # a difference of tolerance * scale is allowed
    tolerance: float = EXACT


def check(isas: list[str] | None = None) -> list[Outcome]:
    """All operations of these tables; None: all that this machine runs. Raises InvalidArgumentError."""
    known = _native.isas()
    if unknown := [isa for isa in isas or () if isa not in known]:
        raise InvalidArgumentError(
            f"--isa: expected tables of this machine, {', '.join(known)}, got {', '.join(unknown)}"
        )
    chosen = isas or [isa for isa in known if isa != ORACLE]
    return [_outcome(isa, name, cases) for isa in chosen for name, cases in OPERATIONS.items()]


def _outcome(isa: str, operation: str, cases: Callable[[str], Iterator[_Case]]) -> Outcome:
    count = 0
    failures: list[str] = []
    for case in cases(isa):
        count += 1
        if (problem := _compare(case)) and len(failures) < 3:
            failures.append(f"{case.name}: {problem}")
    return Outcome(isa=isa, operation=operation, cases=count, failures=failures)


def _compare(case: _Case) -> str:
    """What is wrong with the result of a case; "" if nothing."""
    if case.got.shape != case.want.shape:
        return f"expected shape {case.want.shape}, got {case.got.shape}"
    if not np.array_equal(np.isnan(case.got), np.isnan(case.want)):
        return "expected NaN at the same places"
    with np.errstate(all="ignore"):
        close = np.abs(case.got.astype(np.float64) - case.want) <= case.tolerance * np.abs(case.scale)
    right = close | (case.got == case.want) | np.isnan(case.want)
    if right.all():
        return ""
    place = tuple(int(i) for i in np.argwhere(~right)[0])
    wrong = f"{(~right).sum()} of {right.size} differ"
    return f"{wrong}; at {place} expected {case.want[place]}, got {case.got[place]}"


def _blocks(name: str, rows: int, cols: int, seed: int, hostile: bool) -> Array:
    """Blocks in file format. With the mask, the float16 scales are neither tiny nor huge."""
    elements, size = _native.dtypes()[name]
    random = np.random.default_rng(seed).integers(0, 256, rows * cols // elements * size, dtype=np.uint8)
    return random if hostile else (random & 0x9F | 0x20).astype(np.uint8)


def _matmul(isa: str) -> Iterator[_Case]:
    for name in _native.dtypes():
        for rows, cols, m in _SIZES:
            for gemm in (False, True):
                tolerance = BFLOAT16 if gemm and isa in _ROUNDS_TO_BFLOAT16 else EXACT
                blocks = _blocks(name, rows, cols, rows, False)
                x = np.random.default_rng(m).standard_normal((m, cols)).astype(np.float32)
                got, want = (
                    _native.matmul(table, name, blocks, rows, cols, x, gemm) for table in (isa, ORACLE)
                )
                weights = _native.decode(name, blocks, rows * cols).reshape(rows, cols).astype(np.float64)
                scale = np.abs(x) @ np.abs(weights).T
                label = f"{name}, {rows} x {cols}, {m} rows, {'gemm' if gemm else 'gemv'}"
                yield _Case(label, got, want, scale, tolerance)


def _hostile_matmul(isa: str) -> Iterator[_Case]:
    """Rows of activations that are not finite give NaN, and leave the other rows as they are."""
    for name in _native.dtypes():
        blocks = _blocks(name, 17, 256, 3, True)
        for gemm in (False, True):
            x = np.random.default_rng(4).standard_normal((5, 256)).astype(np.float32)
            clean = _native.matmul(isa, name, blocks, 17, 256, x, gemm)
            x[1, 40], x[3, 200] = np.inf, np.nan
            hostile = _native.matmul(isa, name, blocks, 17, 256, x, gemm)
            kept = [0, 2, 4]
            label = f"{name}, {'gemm' if gemm else 'gemv'}, rows beside rows that are not finite"
            yield _Case(label, hostile[kept], clean[kept], 0.0)


def _pack(isa: str) -> Iterator[_Case]:
    for name in _native.dtypes():
        for rows, cols, _ in _SIZES:
            blocks = _blocks(name, rows, cols, 5, False)
            packed = _native.pack(isa, name, blocks, rows, cols)
            want = _native.decode(name, blocks, rows * cols).reshape(rows, cols)
            yield _Case(f"{name}, {rows} x {cols}", _native.unpack(isa, name, packed, rows, cols), want, 0.0)


def _quantized(isa: str, x: Array) -> list[Array]:
    return list(_native.quantize(isa, x.ravel()))


def _quantize(isa: str) -> Iterator[_Case]:
    rng = np.random.default_rng(6)
    x = (rng.standard_normal((300, 32)) * 10.0 ** rng.integers(-44, 38, (300, 1))).astype(np.float32)
    x[7], x[8, 3], x[9, 31], x[10] = 0, np.inf, np.nan, np.float32(3e38)
    for part, got, want in zip(
        ("scales", "sums", "quants"), _quantized(isa, x), _quantized(ORACLE, x), strict=True
    ):
        yield _Case(part, got, want, 0.0)


def _norms(isa: str) -> Iterator[_Case]:
    for n in _LENGTHS:
        x, weight, bias = np.random.default_rng(n).standard_normal((3, n)).astype(np.float32)
        for label, values in (
            ("", x),
            (", huge", x * np.float32(1e16)),
            (", NaN", np.where(x > 0, x, np.nan)),
        ):
            values = values.astype(np.float32)
            for table_call, name in ((_rms_norm, "rms_norm"), (_layer_norm, "layer_norm")):
                got, want = (table_call(table, values, weight, bias) for table in (isa, ORACLE))
                yield _Case(f"{name}, {n} values{label}", got, want, np.abs(want) + 1)


def _rms_norm(isa: str, x: Array, weight: Array, bias: Array) -> Array:
    return _native.rms_norm(isa, x, weight, 1e-5)


def _layer_norm(isa: str, x: Array, weight: Array, bias: Array) -> Array:
    return _native.layer_norm(isa, x, weight, bias, 1e-5)


def _rope(isa: str) -> Iterator[_Case]:
    for dim in (8, 64, 80, 128):
        for neox in (False, True):
            x = np.random.default_rng(dim).standard_normal(dim).astype(np.float32)
            angles = 1000 * 10000.0 ** (-np.arange(0, dim, 2) / dim)
            cos_sin = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
            got, want = (_native.rope(table, x, cos_sin, neox) for table in (isa, ORACLE))
            yield _Case(f"{dim} values, {'neox' if neox else 'pairs'}", got, want, 1.0)


def _nonlinear(isa: str) -> Iterator[_Case]:
    special = np.array(
        [0, -0.0, 88, -88, 104, -104, 1e30, -1e30, 3e38, -3e38, np.inf, -np.inf, np.nan], np.float32
    )
    for function in _FUNCTIONS:
        for n in _LENGTHS:
            x = (np.random.default_rng(n).standard_normal(n) * 20).astype(np.float32)
            values = np.concatenate([x, special])
            with np.errstate(all="ignore"):
                got, want = (_native.apply(table, function, values) for table in (isa, ORACLE))
            yield _Case(f"{function}, {n} values", got, want, np.abs(want) + 1e-30)
    x = np.concatenate([np.linspace(-200, 200, 1037), special[:-3]]).astype(np.float32)
    got, want = (_native.softcap(table, x, 30.0) for table in (isa, ORACLE))
    yield _Case("softcap", got, want, np.abs(want) + 1e-30)


def _attention(isa: str) -> Iterator[_Case]:
    tolerance = BFLOAT16 if isa in _ROUNDS_TO_BFLOAT16 else 1e-4
    kinds: tuple[KvType, ...] = ("f16", "q8_0")
    for kind in kinds:
        for dim in (8, 64, 120, 128, 256):
            for tokens in _TOKENS:
                rng = np.random.default_rng(dim + tokens)
                q = rng.standard_normal((5, dim)).astype(np.float32) * np.float32(dim**-0.5)
                k, v = rng.standard_normal((2, tokens, dim)).astype(np.float32)
                for begin, cap in ((0, 0.0), (tokens // 2, 6.0)):
                    got, want = (
                        _native.attention(table, q, k, v, kind, begin, cap) for table in (isa, ORACLE)
                    )
                    label = f"{kind}, heads of {dim}, {tokens} positions from {begin}, softcap {cap}"
                    yield _Case(label, got, want, float(np.abs(v).max()), tolerance)


def _delta_rule(isa: str) -> Iterator[_Case]:
    for rows in (1, 5, 16, 40):
        for key_dim, value_dim in ((32, 32), (128, 128)):
            rng = np.random.default_rng(rows)
            q, k = (_unit(rng.standard_normal((rows, key_dim))) for _ in range(2))
            v = rng.standard_normal((rows, value_dim)).astype(np.float32)
            decay = -rng.random(rows).astype(np.float32)
            beta = rng.random(rows).astype(np.float32)
            state = rng.standard_normal((key_dim, value_dim)).astype(np.float32)
            for chunks in (False, True):
                arguments = (q, k, v, decay, beta, state, chunks)
                got, want = (_native.delta_rule(table, *arguments) for table in (isa, ORACLE))
                for part, mine, oracle in zip(("outputs", "state"), got, want, strict=True):
                    label = (
                        f"{part}, {rows} rows of {key_dim} x {value_dim}, {'chunks' if chunks else 'rows'}"
                    )
                    yield _Case(label, mine, oracle, float(np.abs(oracle).max()), 1e-4)


def _unit(x: Array) -> Array:
    unit: Array = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    return unit


OPERATIONS: dict[str, Callable[[str], Iterator[_Case]]] = {
    "pack": _pack,
    "quantize": _quantize,
    "matmul": _matmul,
    "matmul, hostile": _hostile_matmul,
    "norms": _norms,
    "rope": _rope,
    "nonlinear": _nonlinear,
    "attention": _attention,
    "delta_rule": _delta_rule,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """The matrix kernels of one type, on one thread, in 10^9 multiply-adds a second."""

    isa: str
    type: str
    gemm: float
    gemv: float  # of weights that fit in the caches
    peak: float  # of the multiply-adds in registers; 0: the table does not measure it


def speeds(isas: list[str], types: tuple[str, ...] = ("Q4_0", "Q8_0", "Q4_K", "F16")) -> list[Speed]:
    """Beside the limits: the peak of the table, which csrc/kernels/ISA/peak.cpp measures."""
    found = []
    for isa in isas:
        peak = max(_native.peaks(isa, 1).values(), default=0.0) / 1e9
        for kind in types:
            gemm = kernel_rate(isa, kind, 64, 1024, 1024, True, 0.2) / 1e9
            gemv = kernel_rate(isa, kind, 1, 256, 1024, False, 0.2) / 1e9
            found.append(Speed(isa=isa, type=kind, gemm=gemm, gemv=gemv, peak=peak))
    return found


def speeds_table(found: list[Speed]) -> str:
    lines = [f"{'':14} {'':6} {'gemm':>8} {'gemv':>8} {'peak':>8}   10^9 multiply-adds a second, one thread"]
    for one in found:
        share = f"   gemm: {one.gemm / one.peak:.0%} of the peak" if one.peak else ""
        lines.append(f"{one.isa:14} {one.type:6} {one.gemm:8.1f} {one.gemv:8.1f} {one.peak:8.1f}{share}")
    return "\n".join(lines)


def table(outcomes: list[Outcome]) -> str:
    """One line for each operation, and the first wrong results."""
    lines = []
    for one in outcomes:
        result = f"ok, {one.cases} cases" if not one.failures else "FAILED"
        lines.append(f"{one.isa:14} {one.operation:16} {result}")
        lines += [f"    {failure}" for failure in one.failures]
    return "\n".join(lines)
