"""Decoding and encoding of the block types."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from binhdan._native.arguments import (
    NOT_FOUND,
    Array,
    Bytes,
    Floats,
    bytes_of,
    c_string,
    check,
    expect_axes,
    expect_size,
    ffi,
    floats,
    lib,
    pointer,
    string,
)


def dtypes() -> dict[str, tuple[int, int]]:
    """For each type that binhdan reads: elements and bytes of a block."""
    entry = ffi.new("binhdan_tools_type *")
    found: dict[str, tuple[int, int]] = {}
    while (status := lib.binhdan_tools_type_at(len(found), entry)) != NOT_FOUND:
        check(status)
        found[string(entry.name)] = (entry.block, entry.block_bytes)
    return found


_BLOCKS = dtypes()


def _block(type: str) -> tuple[int, int]:
    if type not in _BLOCKS:
        raise ValueError(f"tensor type: expected one of {', '.join(_BLOCKS)}; got {type}")
    return _BLOCKS[type]


def decode(type: str, blocks: Bytes, n: int) -> Floats:
    """The `n` elements of `blocks`, (n,). Equal to gguf-py's dequantize bit for bit."""
    data, size = bytes_of("blocks", blocks)
    out = np.empty(max(n, 0), np.float32)
    check(lib.binhdan_tools_decode(c_string(type), data, size, pointer(out), n))
    return out


def encode(
    type: str,
    values: Array,
    importance: Array | None = None,
    threads: int = 0,
    search: bool = True,
    isa: str = "",
) -> npt.NDArray[np.uint8]:
    """Blocks of `values` (..., n), (..., bytes of n elements), with a small sum of importance times the
    square of the difference. `importance` (n,): None stands for ones. `values` with one axis are rows of the
    size of `importance`. `threads`: 0 for all usable cores; `isa`: "" for the fastest kernel table. The
    blocks depend on neither. F32, F16, BF16 and Q8_0 are rounded in any case; `search=False` rounds Q4_0,
    too."""
    block, block_bytes = _block(type)
    if values.ndim < 1:
        raise ValueError("values: expected at least one axis")
    values = floats(values)
    size = cols = values.shape[-1]
    if importance is not None:
        if values.ndim == 1 and importance.size > 0 and size % importance.size == 0:
            cols = importance.size
        expect_size("size of importance", cols, importance.size)
        if not search:
            raise ValueError("importance: expected None without a search")
        importance = floats(importance)
    for columns in (size, cols):
        if columns % block:
            raise ValueError(f"{type}: expected rows of a multiple of {block} elements, got {columns}")
    out = np.empty((*values.shape[:-1], size // block * block_bytes), np.uint8)
    source, target, name = pointer(values), pointer(out, "void"), c_string(type)
    if search:
        rows = values.size // cols if cols else 0
        weights = pointer(importance)
        check(lib.binhdan_tools_encode(name, source, rows, cols, weights, target, threads, c_string(isa)))
    else:
        check(lib.binhdan_tools_round(name, source, values.size, target))
    return out


def encode_feedback(
    type: str, values: Array, factor: Array, threads: int = 0, isa: str = ""
) -> npt.NDArray[np.uint8]:
    """Blocks of `values` (rows, cols), with a small sum over rows of (x - x')^T H (x - x'). `factor` (cols,
    cols) is the upper triangular R with H = R R^T and a positive diagonal (csrc/encode/feedback.h)."""
    block, block_bytes = _block(type)
    expect_axes(values, "values", 2)
    expect_axes(factor, "factor", 2)
    values, factor = floats(values), floats(factor)
    rows, cols = values.shape
    expect_size("rows of factor", cols, factor.shape[0])
    expect_size("columns of factor", cols, factor.shape[1])
    out = np.empty((rows, cols // block * block_bytes), np.uint8)
    check(
        lib.binhdan_tools_encode_feedback(
            c_string(type),
            pointer(values),
            rows,
            cols,
            pointer(factor),
            pointer(out, "void"),
            threads,
            c_string(isa),
        )
    )
    return out
