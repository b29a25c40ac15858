"""Matrix products and the other kernels of each table, on one thread."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from binhdan._native.arguments import (
    TOO_SMALL,
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
    listed,
    optional_row,
    pointer,
)
from binhdan.runtime.options import KvType


def isas() -> list[str]:
    """Kernel tables that this machine can run, the fastest last."""
    return list(listed(lib.binhdan_tools_isa))


def pack(isa: str, type: str, weights: Bytes, rows: int, cols: int) -> npt.NDArray[np.uint8]:
    """A weight matrix in the layout of a kernel table; the blocks of the file if the table does not pack."""
    data, size = bytes_of("weights", weights)
    packed_size = ffi.new("size_t *")
    arguments = (c_string(isa), c_string(type), data, size, rows, cols)
    status = lib.binhdan_tools_pack(*arguments, ffi.NULL, 0, packed_size)
    if status != TOO_SMALL:
        check(status)
    out = np.empty(packed_size[0], np.uint8)
    check(lib.binhdan_tools_pack(*arguments, pointer(out, "uint8_t"), out.size, packed_size))
    return out


def unpack(isa: str, type: str, packed: Bytes, rows: int, cols: int) -> Floats:
    """The weights of a packed matrix, (rows, cols)."""
    data, size = bytes_of("packed", packed)
    out = np.empty((max(rows, 0), max(cols, 0)), np.float32)
    check(lib.binhdan_tools_unpack(c_string(isa), c_string(type), data, size, rows, cols, pointer(out)))
    return out


class Matmul:
    """x (m, cols) times the transposed weights, with weights that are packed once, for repeated runs on one
    thread. `gemm` selects gemm, else gemv."""

    def __init__(
        self, isa: str, type: str, weights: Bytes, rows: int, cols: int, x: Array, gemm: bool
    ) -> None:
        expect_axes(x, "x", 2)
        expect_size("columns of x", cols, x.shape[1])
        x = floats(x)
        data, size = bytes_of("weights", weights)
        self._shape = (x.shape[0], rows)
        product = ffi.new("binhdan_tools_product **")
        check(
            lib.binhdan_tools_product_create(
                c_string(isa),
                c_string(type),
                data,
                size,
                rows,
                cols,
                pointer(x),
                x.shape[0],
                gemm,
                product,
            )
        )
        self._product = ffi.gc(product[0], lib.binhdan_tools_product_free)

    def run(self) -> None:
        lib.binhdan_tools_product_run(self._product)

    def result(self) -> Floats:
        """The product of the last run, (m, rows)."""
        m, rows = self._shape
        result = lib.binhdan_tools_product_result(self._product)
        found: Floats = np.frombuffer(ffi.buffer(result, 4 * m * rows), np.float32).reshape(m, rows).copy()
        return found

    @property
    def weight_bytes(self) -> int:
        """Size of the packed weights."""
        return int(lib.binhdan_tools_product_weight_bytes(self._product))


def matmul(isa: str, type: str, weights: Bytes, rows: int, cols: int, x: Array, gemm: bool) -> Floats:
    """x (m, cols) times the transposed weights, (m, rows). `gemm` selects gemm, else gemv."""
    product = Matmul(isa, type, weights, rows, cols, x, gemm)
    product.run()
    return product.result()


def quantize(isa: str, x: Array) -> tuple[Floats, npt.NDArray[np.int32], npt.NDArray[np.int8]]:
    """`x` in blocks of 32 int8: scales (blocks,), sums of the quants (blocks,), quants (blocks, 32)."""
    x = floats(x)
    blocks = x.size // 32
    scales, sums = np.empty(blocks, np.float32), np.empty(blocks, np.int32)
    quants = np.empty((blocks, 32), np.int8)
    check(
        lib.binhdan_tools_quantize(
            c_string(isa),
            pointer(x),
            x.size,
            pointer(scales),
            pointer(sums, "int32_t"),
            pointer(quants, "int8_t"),
        )
    )
    return scales, sums, quants


def rms_norm(isa: str, x: Array, weight: Array | None, eps: float) -> Floats:
    """x / sqrt(mean(x^2) + eps) * weight, (n,)."""
    expect_axes(x, "x", 1)
    x = floats(x)
    factor = optional_row("weight", x, weight)
    out = np.empty_like(x)
    check(lib.binhdan_tools_rms_norm(c_string(isa), pointer(x), pointer(factor), x.size, eps, pointer(out)))
    return out


def layer_norm(isa: str, x: Array, weight: Array, bias: Array | None, eps: float) -> Floats:
    """(x - mean(x)) / sqrt(variance(x) + eps) * weight + bias, (n,)."""
    expect_axes(x, "x", 1)
    x = floats(x)
    factor, summand = optional_row("weight", x, weight), optional_row("bias", x, bias)
    out = np.empty_like(x)
    check(
        lib.binhdan_tools_layer_norm(
            c_string(isa), pointer(x), pointer(factor), pointer(summand), x.size, eps, pointer(out)
        )
    )
    return out


def rope(isa: str, x: Array, cos_sin: Array, neox: bool) -> Floats:
    """One head (dim,) rotated by cos_sin (dim / 2, 2): pairs (i, i + dim/2) for neox, else (2i, 2i + 1)."""
    expect_axes(x, "x", 1)
    out = np.array(x, np.float32)
    expect_size("cos_sin", out.size, cos_sin.size)
    table = floats(cos_sin)
    check(lib.binhdan_tools_rope(c_string(isa), pointer(out), pointer(table), out.size, neox))
    return out


def apply(isa: str, function: str, x: Array, factor: Array | None = None) -> Floats:
    """f(x) * factor, (n,). `function`: silu, gelu_tanh, gelu, relu2, sigmoid."""
    expect_axes(x, "x", 1)
    out = np.array(x, np.float32)
    factors = optional_row("factor", out, factor)
    check(
        lib.binhdan_tools_apply(c_string(isa), c_string(function), pointer(out), pointer(factors), out.size)
    )
    return out


def softcap(isa: str, x: Array, cap: float) -> Floats:
    """cap * tanh(x / cap), (n,)."""
    expect_axes(x, "x", 1)
    out = np.array(x, np.float32)
    check(lib.binhdan_tools_softcap(c_string(isa), pointer(out), cap, out.size))
    return out


def attention(
    isa: str, q: Array, k: Array, v: Array, kv_type: KvType = "f16", begin: int = 0, softcap: float = 0.0
) -> Floats:
    """softmax(q k^T) v over the positions from `begin` on. q (heads, head_dim) is scaled already. The table
    rounds k and v (n, head_dim). With a softcap, a score x becomes softcap * tanh(x / softcap)."""
    for name, array in (("q", q), ("k", k), ("v", v)):
        expect_axes(array, name, 2)
    q, k, v = floats(q), floats(k), floats(v)
    heads, dim = q.shape
    expect_size("columns of k", dim, k.shape[1])
    expect_size("size of v", k.size, v.size)
    out = np.empty((heads, dim), np.float32)
    check(
        lib.binhdan_tools_attention(
            c_string(isa),
            pointer(q),
            pointer(k),
            pointer(v),
            heads,
            dim,
            k.shape[0],
            c_string(kv_type),
            begin,
            softcap,
            pointer(out),
        )
    )
    return out


def delta_rule(
    isa: str,
    q: Floats,
    k: Floats,
    v: Floats,
    decay: Floats,
    beta: Floats,
    state: Floats,
    chunks: bool,
) -> tuple[Array, Array]:
    """The gated delta rule for one head: the outputs (rows, value_dim) and the state (key_dim, value_dim)
    after the last row. q, k: (rows, key_dim), normalised and q scaled; v: (rows, value_dim); decay (natural
    logarithm, <= 0), beta: (rows,). chunks: the kernel of prefill, in chunks from row 0 on; otherwise the
    kernel of decode."""
    expect_axes(k, "k", 2)
    expect_axes(v, "v", 2)
    (rows, key_dim), value_dim = k.shape, v.shape[1]
    expect_size("size of q", k.size, q.size)
    expect_size("rows of v", rows, v.shape[0])
    expect_size("decay", rows, decay.size)
    expect_size("beta", rows, beta.size)
    next_state = np.array(state, np.float32)
    # The library checks the divisors of the dimensions, with which the size of the state is meaningful.
    for name, columns in (("k", key_dim), ("v", value_dim)):
        if columns <= 0 or columns % 8:
            raise ValueError(f"columns of {name}: expected a positive multiple of 8, got {columns}")
    expect_size("state", key_dim * value_dim, next_state.size)
    out = np.empty((rows, value_dim), np.float32)
    arrays = {
        "q": floats(q),
        "k": floats(k),
        "v": floats(v),
        "decay": floats(decay),
        "beta": floats(beta),
    }
    args = ffi.new(
        "binhdan_tools_delta *",
        {name: pointer(array) for name, array in arrays.items()}
        | {"state": pointer(next_state), "out": pointer(out)}
        | {"rows": rows, "key_dim": key_dim, "value_dim": value_dim},
    )
    check(lib.binhdan_tools_delta_rule(c_string(isa), args, chunks))
    return out, next_state.reshape(key_dim, value_dim)
