"""Every kernel table that this machine supports, compared with float64 numpy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from binhdan import _native

Array = npt.NDArray[Any]

TYPES = _native.dtypes()
ISAS = _native.isas()
FLOAT_TYPES = {"F32", "F16", "BF16"}
# Rounding of a float32 sum of up to 1,024 products, relative to the sum of their magnitudes.
SUM_TOLERANCE = 4e-6
# The same when kernels round weights to bfloat16. Weights of TWICE_ROUNDED types are first rounded to
# float32, which changes the result for a few weights near the middle of two bfloat16.
TIE_TOLERANCE = 1e-4
TWICE_ROUNDED = {"Q4_1", "Q5_1", "Q2_K", "Q4_K", "Q5_K", "IQ4_XS"}

every_isa = pytest.mark.parametrize("isa", ISAS)


def bfloat16(x: Array) -> Array:
    """x rounded to bfloat16."""
    return _native.decode("BF16", _native.encode("BF16", x), x.size).reshape(x.shape)


def random_weights(name: str, rows: int, cols: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """File blocks (rows, bytes) with finite scales, and their decoded values, float64 (rows, cols)."""
    elements, size = TYPES[name]
    if elements == 1:
        blocks = _native.encode(name, rng.standard_normal((rows, cols)))
    else:
        blocks = rng.integers(0, 256, (rows * cols // elements, size), dtype=np.uint8)
        scale = rng.standard_normal((2, len(blocks))).astype(np.float16) * np.float16(0.02)
        for offset, d in zip(scale_offsets(name), scale, strict=False):
            blocks[:, offset : offset + 2] = d.view(np.uint8).reshape(-1, 2)
        if name == "MXFP4":  # 2^-12 to 2^3
            blocks[:, 0] = rng.integers(116, 132, len(blocks))
        if name == "IQ1_M":  # four bits of the float16 are at the top of each 16-bit word
            words = blocks[:, 48:].view("<u2")
            words[:] = words & 0xFFF | (scale[0].view(np.uint16)[:, None] << np.array([12, 8, 4, 0]) & 0xF000)
        blocks = blocks.reshape(rows, -1)
    decoded = _native.decode(name, blocks, rows * cols)
    assert np.isfinite(decoded).all()
    return blocks, decoded.reshape(rows, cols).astype(np.float64)


def scale_offsets(name: str) -> list[int]:
    """Byte offsets of the float16 scales of a block."""
    offsets = {
        "Q4_1": [0, 2], "Q5_1": [0, 2], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q2_K": [80, 82], "Q3_K": [108],
        "Q6_K": [208], "TQ1_0": [52], "TQ2_0": [64], "MXFP4": [], "NVFP4": [], "IQ1_M": [],
    }  # fmt: skip
    return offsets.get(name, [0])


def as_int8(isa: str, x: Array) -> Array:
    """The activations after quantization to int8, float64."""
    d, sums, quants = _native.quantize(isa, x.ravel())
    assert np.array_equal(quants.sum(axis=1, dtype=np.int32), sums)
    return (d[:, None].astype(np.float64) * quants).reshape(x.shape)


def test_the_scalar_table_is_always_available() -> None:
    assert ISAS[0] == "scalar"
    with pytest.raises(ValueError, match="this build has scalar"):
        _native.matmul("mmx", "F32", np.zeros(4, np.uint8), 1, 1, np.zeros((1, 1)), False)


@every_isa
@pytest.mark.parametrize("gemm", [False, True])
@pytest.mark.parametrize("name", TYPES)
def test_matmul(isa: str, name: str, gemm: bool) -> None:
    rng = np.random.default_rng(1)
    rows, cols, m = 45, 768, 6
    blocks, weights = random_weights(name, rows, cols, rng)
    x = rng.standard_normal((m, cols)).astype(np.float32)
    got = _native.matmul(isa, name, blocks, rows, cols, x, gemm)
    tolerance, quantized, tiles = SUM_TOLERANCE, name not in FLOAT_TYPES, isa == "amx" and gemm
    if quantized and tiles:
        used, weights = bfloat16(x), bfloat16(weights)
        tolerance = TIE_TOLERANCE if name in TWICE_ROUNDED else SUM_TOLERANCE
    else:
        used = as_int8(isa, x) if quantized else x.astype(np.float64)
    assert (np.abs(got - used @ weights.T) <= tolerance * (np.abs(used) @ np.abs(weights).T)).all()
    if quantized and not tiles:  # the error of int8 is at most half a step in each activation
        half_step = np.repeat(np.abs(x).reshape(m, -1, 32).max(axis=2) / 127 / 2, 32, axis=1)
        assert (np.abs(got - x @ weights.T) <= 1.001 * half_step @ np.abs(weights).T).all()


@every_isa
@pytest.mark.parametrize("name", TYPES)
def test_packed_rows_unpack_to_the_same_bits(isa: str, name: str) -> None:
    rows, cols = 35, 512
    blocks, weights = random_weights(name, rows, cols, np.random.default_rng(2))
    packed = _native.pack(isa, name, blocks, rows, cols)
    assert np.array_equal(_native.unpack(isa, name, packed, rows, cols), weights.astype(np.float32))


@every_isa
def test_quantize(isa: str) -> None:
    rng = np.random.default_rng(3)
    x = (rng.standard_normal((500, 32)) * 10.0 ** rng.integers(-20, 20, (500, 1))).astype(np.float32)
    x[7] = 0
    half_step = np.abs(x).max(axis=1, keepdims=True) / 127 / 2
    assert (np.abs(as_int8(isa, x) - x) <= half_step * 1.0001).all()
    d, sums, quants = _native.quantize(isa, x.ravel())
    d_scalar, sums_scalar, quants_scalar = _native.quantize("scalar", x.ravel())
    assert np.array_equal(d, d_scalar)
    assert np.array_equal(sums, sums_scalar)
    assert np.array_equal(quants, quants_scalar)


@every_isa
@pytest.mark.parametrize("n", [1, 8, 33, 896])
def test_rms_norm(isa: str, n: int) -> None:
    rng = np.random.default_rng(4)
    x, weight = rng.standard_normal((2, n)).astype(np.float32)
    want = x / np.sqrt(np.mean(x.astype(np.float64) ** 2) + 1e-5) * weight
    np.testing.assert_allclose(_native.rms_norm(isa, x, weight, 1e-5), want, rtol=2e-6)


@every_isa
@pytest.mark.parametrize("neox", [False, True])
@pytest.mark.parametrize("dim", [8, 64, 80, 128])
def test_rope(isa: str, dim: int, neox: bool) -> None:
    """A rotation is a product of complex numbers."""
    x = np.random.default_rng(5).standard_normal(dim).astype(np.float32)
    angles = 1000 * 10000.0 ** (-np.arange(0, dim, 2) / dim)
    cos_sin = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    pairs = x.reshape(2, -1).T if neox else x.reshape(-1, 2)
    rotated = (pairs[:, 0] + 1j * pairs[:, 1]) * (cos_sin[:, 0] + 1j * cos_sin[:, 1].astype(np.float64))
    want = np.stack([rotated.real, rotated.imag], axis=0 if neox else 1).ravel()
    np.testing.assert_allclose(_native.rope(isa, x, cos_sin, neox), want, atol=1e-6)


@every_isa
@pytest.mark.parametrize("n", [1, 8, 33, 896])
def test_layer_norm(isa: str, n: int) -> None:
    rng = np.random.default_rng(9)
    x, weight, bias = rng.standard_normal((3, n)).astype(np.float32)
    exact = x.astype(np.float64)
    want = (exact - exact.mean()) / np.sqrt(exact.var() + 1e-5) * weight
    np.testing.assert_allclose(_native.layer_norm(isa, x, weight, None, 1e-5), want, rtol=2e-6, atol=1e-6)
    np.testing.assert_allclose(
        _native.layer_norm(isa, x, weight, bias, 1e-5), want + bias, rtol=2e-6, atol=1e-6
    )


NONLINEAR: dict[str, Callable[[Array], Array]] = {
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "gelu": np.vectorize(lambda x: 0.5 * x * math.erfc(-x / math.sqrt(2))),
    "relu2": lambda x: np.maximum(x, 0) ** 2,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
}


@every_isa
@pytest.mark.parametrize("function", NONLINEAR)
@pytest.mark.parametrize("n", [1, 8, 33, 4864])
def test_nonlinear_functions(isa: str, function: str, n: int) -> None:
    rng = np.random.default_rng(6)
    x, factor = (rng.standard_normal((2, n)) * [[20], [1]]).astype(np.float32)
    want = NONLINEAR[function](x.astype(np.float64))
    rtol, atol = 1e-6, 1e-37
    if function == "gelu_tanh":  # of the reference, 1 + tanh cancels where |want| is small
        rtol, atol = 5e-6, 1e-12
    np.testing.assert_allclose(_native.apply(isa, function, x), want, rtol=rtol, atol=atol)
    np.testing.assert_allclose(_native.apply(isa, function, x, factor), want * factor, rtol=rtol, atol=atol)


@every_isa
def test_softcap(isa: str) -> None:
    x = (np.random.default_rng(10).standard_normal(1000) * 40).astype(np.float32)
    want = 30 * np.tanh(x.astype(np.float64) / 30)
    np.testing.assert_allclose(_native.softcap(isa, x, 30.0), want, rtol=5e-7)


@every_isa
@pytest.mark.parametrize("dim", [8, 64, 120, 128, 512])
@pytest.mark.parametrize("tokens", [1, 64, 65, 300])
def test_attention(isa: str, dim: int, tokens: int) -> None:
    rng = np.random.default_rng(7)
    q = (rng.standard_normal((5, dim)) * min(1, (128 / dim) ** 0.5)).astype(np.float32)
    k, v = rng.standard_normal((2, tokens, dim)).astype(np.float16).astype(np.float32)
    got = _native.attention(isa, q, k, v)
    tolerance = 2e-5
    if isa == "amx":  # queries, keys, values and softmax weights are rounded to bfloat16
        q, k, v = (bfloat16(q * np.float32(np.log2(np.e))) * np.log(2), bfloat16(k), bfloat16(v))
        tolerance = 2**-8
    scores = q.astype(np.float64) @ k.T.astype(np.float64)
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    want = weights / weights.sum(axis=1, keepdims=True) @ v.astype(np.float64)
    np.testing.assert_allclose(got, want, atol=tolerance * np.abs(v).max())


@every_isa
def test_attention_with_a_window_and_a_softcap(isa: str) -> None:
    rng = np.random.default_rng(11)
    q = rng.standard_normal((5, 64)).astype(np.float32)
    k, v = rng.standard_normal((2, 300, 64)).astype(np.float16).astype(np.float32)
    got = _native.attention(isa, q, k, v, begin=90, softcap=6.0)
    scores = 6 * np.tanh(q.astype(np.float64) @ k[90:].T.astype(np.float64) / 6)
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    want = weights / weights.sum(axis=1, keepdims=True) @ v[90:].astype(np.float64)
    # amx rounds queries, keys, values and weights to bfloat16.
    np.testing.assert_allclose(got, want, atol=0.02 if isa == "amx" else 2e-5)


@every_isa
def test_attention_handles_scores_that_overflow_exp(isa: str) -> None:
    rng = np.random.default_rng(8)
    q = np.full((1, 64), 100, np.float32)
    k = np.concatenate([np.full((1, 64), 9), np.full((1, 64), -9), np.full((70, 64), 8.5)]).astype(np.float32)
    v = rng.integers(-8, 8, (72, 64)).astype(np.float32)  # exact in float16 and bfloat16
    got = _native.attention(isa, q, k, v)
    np.testing.assert_allclose(got[0], v[0], atol=1e-3 if isa == "amx" else 1e-5)


def test_mismatched_arguments_raise_value_errors() -> None:
    blocks = _native.encode("Q8_0", np.zeros((4, 64), np.float32))
    x = np.zeros((1, 64), np.float32)
    with pytest.raises(ValueError, match="bytes of weights: expected 204, got 272"):
        _native.matmul("", "Q8_0", blocks, 3, 64, x, False)
    with pytest.raises(ValueError, match="columns of x: expected 32, got 64"):
        _native.matmul("", "Q8_0", blocks, 8, 32, x, False)
    with pytest.raises(ValueError, match="overflows"):
        _native.matmul("", "Q8_0", blocks, 2**62, 64, x, False)
    with pytest.raises(ValueError, match="rows: expected at least 1, got -4"):
        _native.pack("", "Q8_0", blocks, -4, 64)
    with pytest.raises(ValueError, match="bytes of packed weights: expected 1088, got 272"):
        _native.unpack("", "Q8_0", blocks, 4, 64)
    with pytest.raises(ValueError, match="multiple of 32"):
        _native.quantize("", np.zeros(31, np.float32))
    with pytest.raises(ValueError, match="weight: expected 8, got 4"):
        _native.rms_norm("", np.zeros(8, np.float32), np.zeros(4, np.float32), 1e-5)
    with pytest.raises(ValueError, match="function: expected a nonlinear function of the kernels, got 'elu'"):
        _native.apply("", "elu", np.zeros(8, np.float32))
    with pytest.raises(ValueError, match="head_dim"):
        kv = np.zeros((1, 4), np.float32)
        _native.attention("", np.zeros((1, 4), np.float32), kv, kv)
    with pytest.raises(ValueError, match="begin: expected 0 to 0, got 1"):
        kv = np.zeros((1, 8), np.float32)
        _native.attention("", np.zeros((1, 8), np.float32), kv, kv, begin=1)
