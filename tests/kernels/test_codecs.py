"""Block codecs, compared with gguf-py bit for bit: all types decode; the types in WRITTEN are rounded."""

from __future__ import annotations

from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import pytest
from gguf import quants
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from binhdan import _native

Array = npt.NDArray[Any]

TYPES = _native.dtypes()
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
WRITTEN = ["F32", "F16", "BF16", "Q8_0", "Q4_0"]
EXPECTED = {
    "F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K",
    "IQ4_NL", "IQ4_XS", "Q1_0", "Q2_0", "TQ1_0", "TQ2_0", "MXFP4", "NVFP4", "IQ1_S", "IQ1_M", "IQ2_XXS",
    "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S",
}  # fmt: skip


def decode_q1_0(blocks: Array) -> Array:
    """ggml's dequantize_row_q1_0: gguf-py has no decoder. A set bit is d, a clear one -d; low bits first."""
    d = blocks[:, :2].copy().view(np.float16).astype(np.float32)
    return np.where(np.unpackbits(blocks[:, 2:], axis=1, bitorder="little") == 1, d, -d)


def decode_q2_0(blocks: Array) -> Array:
    """ggml's dequantize_row_q2_0: gguf-py lacks the type. d (q - 1), low bits first."""
    d = blocks[:, :2].copy().view(np.float16).astype(np.float32)
    quants = (blocks[:, 2:, None] >> np.array([0, 2, 4, 6], np.uint8) & 3).reshape(len(blocks), 64)
    return (quants.astype(np.float32) - 1) * d


OTHER_DECODERS = {"Q1_0": decode_q1_0, "Q2_0": decode_q2_0}
OTHER_SIZES = {"Q2_0": (64, 18)}  # elements and bytes of a block


def gguf_decode(name: str, blocks: Array) -> Array:
    with np.errstate(all="ignore"):
        if name in OTHER_DECODERS:
            return OTHER_DECODERS[name](blocks).ravel()
        decoded = quants.dequantize(blocks.copy(), gguf.GGMLQuantizationType[name]).ravel()
        return decoded.astype(np.float32, copy=False)  # NVFP4: float64 with exact float32 values


def gguf_encode(name: str, values: Array) -> Array:
    with np.errstate(all="ignore"):
        return quants.quantize(values, gguf.GGMLQuantizationType[name]).view(np.uint8)


def same_bits(got: Array, want: Array) -> bool:
    """Whether the bits are equal; any NaN equals any other NaN."""
    both_nan = np.isnan(got) & np.isnan(want)
    return got.shape == want.shape and bool(np.all((got.view(np.uint32) == want.view(np.uint32)) | both_nan))


def encode(name: str, values: Array) -> Array:
    """Plain rounding, without a search (tests/encode tests the search)."""
    return np.asarray(_native.encode(name, values, search=False))


def check_decode(name: str, blocks: Array) -> None:
    elements, size = TYPES[name]
    n = blocks.size // size * elements
    assert same_bits(_native.decode(name, blocks, n), gguf_decode(name, blocks.reshape(-1, size)))


def test_types_and_block_sizes_equal_those_of_gguf() -> None:
    assert set(TYPES) == EXPECTED
    for name, sizes in TYPES.items():
        assert sizes == (OTHER_SIZES.get(name) or gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]])


@pytest.mark.parametrize("name", TYPES)
def test_random_blocks_decode_to_the_same_bits(name: str) -> None:
    """Random bytes have scales of every kind (subnormal, infinite, NaN) and all entries of the grids."""
    rng = np.random.default_rng(7)
    check_decode(name, rng.integers(0, 256, 4000 * TYPES[name][1], dtype=np.uint8))


@pytest.mark.parametrize("name", TYPES)
@given(data=st.data())
@settings(max_examples=50, deadline=None)
def test_any_block_decodes_to_the_same_bits(name: str, data: st.DataObject) -> None:
    size = TYPES[name][1] * data.draw(st.integers(1, 3))
    check_decode(name, np.frombuffer(data.draw(st.binary(min_size=size, max_size=size)), np.uint8))


@pytest.mark.parametrize("name", ["F16", "BF16"])
def test_every_16_bit_float_decodes_to_the_same_bits(name: str) -> None:
    check_decode(name, np.arange(65536, dtype=np.uint16).view(np.uint8))


@pytest.mark.parametrize("name", ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "IQ4_NL", "Q1_0", "Q2_0"])
def test_every_scale_decodes_to_the_same_bits(name: str) -> None:
    blocks = np.random.default_rng(8).integers(0, 256, (65536, TYPES[name][1]), dtype=np.uint8)
    blocks[:, :2] = np.arange(65536, dtype=np.uint16).view(np.uint8).reshape(-1, 2)
    check_decode(name, blocks)


@pytest.mark.parametrize("name", ["MXFP4", "NVFP4"])
def test_every_8_bit_scale_decodes_to_the_same_bits(name: str) -> None:
    blocks = np.random.default_rng(8).integers(0, 256, (256, TYPES[name][1]), dtype=np.uint8)
    blocks[:, 0] = np.arange(256)
    check_decode(name, blocks)


def check_encode(name: str, values: Array) -> None:
    got = encode(name, values)
    want = gguf_encode(name, values)
    # When 1 / scale overflows, gguf-py's quants are arbitrary, and binhdan's quants decode to 0.
    if TYPES[name][0] == 32:
        top = np.abs(values).max(axis=1)
        tiny = (top > 0) & (top < 127 * 2.0**-126)
        assert not _native.decode(name, got[tiny], 32 * int(tiny.sum())).any()
        got, want = got[~tiny], want[~tiny]
    assert np.array_equal(got, want)


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("spread", ["weights", "ties", "wide", "extreme"])
def test_encoded_blocks_have_the_same_bits(name: str, spread: str) -> None:
    rng = np.random.default_rng(9)
    values: Array = rng.standard_normal((3000, 32)).astype(np.float32)
    if spread == "ties":
        values = np.round(values * 4) / 4
    elif spread == "wide":
        values *= np.float32(10) ** rng.integers(-30, 6, values.shape).astype(np.float32)
    elif spread == "extreme":
        values *= np.float32(10) ** rng.integers(-36, 37, (3000, 1)).astype(np.float32)
    check_encode(name, values)


@pytest.mark.parametrize("name", WRITTEN)
@given(values=hnp.arrays(np.float32, (2, 32), elements=FINITE))
@settings(max_examples=100, deadline=None)
def test_any_finite_values_encode_to_the_same_bits(name: str, values: Array) -> None:
    check_encode(name, values)


@pytest.mark.parametrize("name", WRITTEN)
def test_encoding_keeps_the_leading_axes(name: str) -> None:
    elements, size = TYPES[name]
    values = np.random.default_rng(10).standard_normal((2, 3, 64)).astype(np.float32)
    blocks = encode(name, values)
    assert blocks.shape == (2, 3, 64 // elements * size)
    assert np.array_equal(blocks.ravel(), encode(name, values.ravel()))


@pytest.mark.parametrize("name", ["Q8_0", "Q4_0"])
def test_rounding_is_to_the_nearest(name: str) -> None:
    """The error is at most half a step; for Q4_0 a whole step, because its quants are -8 to 7."""
    values = np.random.default_rng(11).standard_normal((200, 32)).astype(np.float32)
    top = np.abs(values).max(axis=1, keepdims=True)
    step = top / 127 if name == "Q8_0" else top / 8
    limit = step * (0.5 if name == "Q8_0" else 1.0) + top * 2.0**-10  # the scale is a float16
    decoded = _native.decode(name, encode(name, values), values.size).reshape(values.shape)
    assert (np.abs(decoded - values) <= limit).all()


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("fault", [np.nan, np.inf, -np.inf])
def test_non_finite_values_do_not_change_other_blocks(name: str, fault: float) -> None:
    values = np.random.default_rng(12).standard_normal((3, 32)).astype(np.float32)
    want = encode(name, values)
    values[1, 5] = fault
    got = encode(name, values)
    assert np.array_equal(got[[0, 2]], want[[0, 2]])


def test_mismatched_arguments_raise_value_errors() -> None:
    blocks = encode("Q8_0", np.zeros((2, 64), np.float32))
    with pytest.raises(ValueError, match=r"expected one of F32, F16.*; got Q9_0"):
        _native.decode("Q9_0", blocks, 128)
    with pytest.raises(ValueError, match="bytes of blocks: expected 102, got 136"):
        _native.decode("Q8_0", blocks, 96)
    with pytest.raises(ValueError, match="multiple of 32"):
        _native.decode("Q8_0", blocks, 127)
    with pytest.raises(ValueError, match="multiple of 32"):
        _native.decode("Q8_0", blocks, -128)
    with pytest.raises(ValueError, match="contiguous"):
        _native.decode("Q8_0", blocks[:, ::2], 64)
    with pytest.raises(ValueError, match="multiple of 32 elements, got 33"):
        encode("Q8_0", np.zeros((2, 33), np.float32))
    with pytest.raises(ValueError, match="without a search is not supported; expected one of F32, F16"):
        encode("Q4_K", np.zeros((1, 256), np.float32))
