"""Encoders with a search: their blocks decode as gguf-py decodes them, and their error is small."""

from __future__ import annotations

from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import pytest
from gguf import quants
from hypothesis import given, settings
from hypothesis import strategies as st

from binhdan import _native

Array = npt.NDArray[Any]

TYPES = (
    "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "TQ1_0",
    "TQ2_0", "Q1_0", "Q2_0", "MXFP4",
)  # fmt: skip
every_type = pytest.mark.parametrize("name", TYPES)
# The square error of normal weights, relative to their squares: a little above what the encoders reach.
LIMITS = {
    "Q4_0": 0.0068, "Q4_1": 0.0049, "Q5_0": 0.0017, "Q5_1": 0.0012, "Q2_K": 0.068, "Q3_K": 0.021,
    "Q4_K": 0.0050, "Q5_K": 0.0012, "Q6_K": 0.0003, "IQ4_NL": 0.0055, "IQ4_XS": 0.0056, "TQ1_0": 0.20,
    "TQ2_0": 0.20, "Q1_0": 0.37, "Q2_0": 0.13, "MXFP4": 0.013,
}  # fmt: skip


def normal(seed: int, rows: int = 16, cols: int = 512) -> Array:
    return np.random.default_rng(seed).standard_normal((rows, cols)).astype(np.float32)


def round_trip(name: str, values: Array, importance: Array | None = None) -> Array:
    blocks = _native.encode(name, values, importance, 1)
    return np.asarray(_native.decode(name, blocks.ravel(), values.size)).reshape(values.shape)


def error(name: str, values: Array, weights: Array | None = None, importance: Array | None = None) -> float:
    """The sum of weights times squares, relative to that of the values."""
    w = np.ones(values.shape[-1]) if weights is None else weights.astype(np.float64)
    rest = round_trip(name, values, importance).astype(np.float64) - values
    return float((w * rest**2).sum() / (w * values.astype(np.float64) ** 2).sum())


@pytest.mark.parametrize("name", [name for name in TYPES if name not in ("Q1_0", "Q2_0")])
def test_gguf_reads_the_same_values(name: str) -> None:
    """tests/kernels/test_codecs.py compares the decoders of the two other types."""
    values = normal(1)
    blocks = _native.encode(name, values)
    got = _native.decode(name, blocks.ravel(), values.size).reshape(values.shape)
    want = quants.dequantize(blocks, gguf.GGMLQuantizationType[name])
    assert np.array_equal(got.view(np.uint32), want.astype(np.float32).view(np.uint32))


@every_type
def test_the_error_of_normal_weights_is_small(name: str) -> None:
    assert error(name, normal(2)) < LIMITS[name]


@every_type
def test_values_of_the_type_are_reproduced(name: str) -> None:
    """Blocks of the encoder, decoded and encoded again: not always exact, but nearly."""
    values = round_trip(name, normal(3))
    assert error(name, values) < 0.03 * LIMITS[name]


@every_type
def test_importance_moves_the_error_to_other_columns(name: str) -> None:
    values = normal(4)
    importance = np.exp(1.5 * np.random.default_rng(5).standard_normal(512)).astype(np.float32)
    assert error(name, values, importance, importance) < error(name, values, importance) * 0.995


@every_type
def test_the_size_of_the_importance_does_not_matter(name: str) -> None:
    values = normal(6)
    importance = np.exp(np.random.default_rng(7).standard_normal(512)).astype(np.float32)
    want = _native.encode(name, values, importance)
    assert np.array_equal(_native.encode(name, values, importance * np.float32(2.0**40)), want)
    assert np.array_equal(_native.encode(name, values, importance * np.float32(2.0**-40)), want)


@every_type
def test_threads_do_not_change_the_blocks(name: str) -> None:
    values = normal(8, 37, 256)
    want = _native.encode(name, values, None, 1)
    assert np.array_equal(_native.encode(name, values, None, 3), want)
    assert np.array_equal(np.concatenate([_native.encode(name, row) for row in values]), want.ravel())


@every_type
def test_all_kernel_tables_give_the_same_blocks(name: str) -> None:
    values = normal(12)
    want = _native.encode(name, values, isa="scalar")
    for isa in _native.isas():
        assert np.array_equal(_native.encode(name, values, isa=isa), want)


def test_flat_values_are_rows_of_the_size_of_the_importance() -> None:
    values, importance = normal(9, 4, 256), np.arange(256, dtype=np.float32)
    want = _native.encode("Q4_K", values, importance)
    assert np.array_equal(_native.encode("Q4_K", values.ravel(), importance), want.ravel())


def hostile_blocks() -> dict[str, Array]:
    rng = np.random.default_rng(10)
    base = rng.standard_normal(256).astype(np.float32)
    outlier = base.copy()
    outlier[7] = 3e4
    alternating = np.where(np.arange(256) % 2 == 0, np.float32(3e38), np.float32(-3e38))
    mixed = base.copy()
    mixed[[3, 100, 200]] = np.nan, np.inf, -np.inf
    return {
        "zeros": np.zeros(256, np.float32),
        "constant": np.full(256, 0.37, np.float32),
        "negative constant": np.full(256, -11.0, np.float32),
        "denormal": base * np.float32(1e-41),
        "tiny": base * np.float32(1e-20),
        "huge": base * np.float32(1e37),
        "extremes": alternating,
        "outlier": outlier,
        "one value": np.eye(1, 256, 100, dtype=np.float32)[0],
        "far from zero": base * np.float32(1e-3) + np.float32(100),
        "not numbers": np.full(256, np.nan, np.float32),
        "mixed": mixed,
    }


@every_type
@pytest.mark.parametrize("case", hostile_blocks())
def test_hostile_values_give_finite_blocks(name: str, case: str) -> None:
    decoded = round_trip(name, hostile_blocks()[case][None])
    assert np.isfinite(decoded).all()
    if case in ("zeros", "denormal") or (case == "tiny" and name != "MXFP4"):  # MXFP4 has such scales
        assert np.abs(decoded).max() <= 1e-20


@every_type
@given(bits=st.binary(min_size=1024, max_size=1024), weights=st.binary(min_size=1024, max_size=1024))
@settings(max_examples=25, deadline=None)
def test_any_floats_give_finite_blocks(name: str, bits: bytes, weights: bytes) -> None:
    values, importance = np.frombuffer(bits, np.float32), np.frombuffer(weights, np.float32)
    assert np.isfinite(round_trip(name, values[None], importance)).all()


@every_type
def test_a_constant_block_keeps_its_value(name: str) -> None:
    decoded = round_trip(name, np.full((1, 256), 0.37, np.float32))
    assert np.abs(decoded - 0.37).max() < (0.06 if name == "MXFP4" else 1e-3)


def test_mismatched_arguments_raise_value_errors() -> None:
    values = normal(11, 2, 256)
    with pytest.raises(ValueError, match="Q4_K: expected rows of a multiple of 256 elements, got 128"):
        _native.encode("Q4_K", values[:, :128])
    with pytest.raises(ValueError, match="Q4_K: expected rows of a multiple of 256 elements, got 128"):
        _native.encode("Q4_K", values.ravel(), values[0, :128])
    with pytest.raises(ValueError, match="size of importance: expected 256, got 32"):
        _native.encode("Q4_K", values, values[0, :32])
    with pytest.raises(ValueError, match="importance: expected None without a search"):
        _native.encode("Q4_0", values, values[0], search=False)
    with pytest.raises(ValueError, match="threads: expected at least 0, got -1"):
        _native.encode("Q4_0", values, None, -1)
    with pytest.raises(ValueError, match="encoding to IQ1_S is not supported; expected one of F32"):
        _native.encode("IQ1_S", values)
