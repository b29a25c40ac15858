"""Encoding with feedback of errors, against the same recursion in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from binhdan import _native
from binhdan.quantize.feedback import feedback_factor

Array = npt.NDArray[Any]

TYPES = ("Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q2_K", "Q3_K", "Q4_K", "Q6_K", "IQ4_NL", "IQ4_XS", "TQ2_0", "Q1_0")


def hessian(cols: int, seed: int = 1) -> Array:
    """Of correlated activations: few directions carry most of the energy."""
    rng = np.random.default_rng(seed)
    energy = 1 / np.arange(1, cols + 1)
    activations = (rng.standard_normal((2 * cols, cols)) * energy) @ rng.standard_normal((cols, cols))
    return activations.T @ activations / len(activations)


def normal(rows: int = 11, cols: int = 512) -> Array:
    return np.random.default_rng(2).standard_normal((rows, cols)).astype(np.float32)


def decode(name: str, blocks: Array, values: Array) -> Array:
    return np.asarray(_native.decode(name, blocks.ravel(), values.size)).reshape(values.shape)


def loss(h: Array, values: Array, decoded: Array) -> float:
    rest = decoded.astype(np.float64) - values
    return float(np.einsum("ij,jk,ik->", rest, h, rest, optimize=True))


@pytest.mark.parametrize("name", TYPES)
def test_the_loss_is_lower_than_with_importance_alone(name: str) -> None:
    values, h = normal(), hessian(512)
    plain = _native.encode(name, values, h.diagonal().astype(np.float32))
    fed = _native.encode_feedback(name, values, feedback_factor(h))
    assert loss(h, values, decode(name, fed, values)) < 0.5 * loss(h, values, decode(name, plain, values))


@pytest.mark.parametrize("name", TYPES)
def test_a_diagonal_hessian_has_no_feedback(name: str) -> None:
    """Then the blocks are those of the plain encoder, whose smallest importance is 1e-5 of the mean."""
    values, importance = normal(), np.linspace(1, 4, 512, dtype=np.float32) ** 2
    got = _native.encode_feedback(name, values, np.diag(np.sqrt(importance)))
    errors = [
        float((importance * (decode(name, blocks, values) - values) ** 2).sum())
        for blocks in (got, _native.encode(name, values, importance))
    ]
    if name != "Q8_0":  # the plain encoder of Q8_0 does not search
        assert errors[0] == pytest.approx(errors[1], rel=1e-3)


def test_the_columns_follow_the_recursion() -> None:
    """Q4_0: with the scales that were chosen, each column is rounded to the value nearest to y."""
    values, h = normal(5, 128), hessian(128)
    r = feedback_factor(h).astype(np.float64)
    blocks = _native.encode_feedback("Q4_0", values, r.astype(np.float32))
    decoded = decode("Q4_0", blocks, values).astype(np.float64)
    scales = blocks.reshape(5, 4, 18)[:, :, :2].copy().view(np.float16).astype(np.float64)[:, :, 0]
    unit = r / r.diagonal()
    y = values + (values - decoded) @ (unit - np.eye(128))
    d = np.repeat(scales, 32, axis=1)
    nearest = np.clip(np.rint(y / d), -8, 7) * d
    ties = np.abs(np.abs(y / d - np.floor(y / d)) - 0.5) < 1e-3
    assert np.array_equal(nearest[~ties].astype(np.float32), decoded[~ties].astype(np.float32))


def test_threads_and_kernel_tables_do_not_change_the_blocks() -> None:
    values, factor = normal(21, 256), feedback_factor(hessian(256))
    want = _native.encode_feedback("Q4_K", values, factor, 1, isa="scalar")
    assert np.array_equal(_native.encode_feedback("Q4_K", values, factor, 3), want)
    assert np.array_equal(_native.encode_feedback("Q4_K", values[:5], factor), want[:5])


def test_hostile_values_give_finite_blocks() -> None:
    values, factor = normal(4, 256), feedback_factor(hessian(256))
    values[0, 3], values[1, 5], values[2] = np.nan, np.inf, 3e38
    blocks = _native.encode_feedback("Q4_K", values, factor)
    assert np.isfinite(decode("Q4_K", blocks, values)).all()
    assert np.array_equal(blocks[3], _native.encode_feedback("Q4_K", values[3:], factor)[0])


def test_the_factor_has_the_product_and_the_damping() -> None:
    h = hessian(64)
    r = feedback_factor(h, 0.1).astype(np.float64)
    assert np.array_equal(r, np.triu(r))
    np.testing.assert_allclose(r @ r.T, h + 0.1 * h.diagonal().mean() * np.eye(64), atol=1e-5 * h.max())
    assert np.array_equal(feedback_factor(np.zeros((4, 4))), np.eye(4, dtype=np.float32))


def test_bad_arguments_raise_value_errors() -> None:
    values, factor = normal(2, 256), np.eye(256, dtype=np.float32)
    with pytest.raises(ValueError, match="rows of factor: expected 256, got 32"):
        _native.encode_feedback("Q4_0", values, factor[:32])
    factor[9, 9] = 0
    with pytest.raises(ValueError, match="expected a positive diagonal, got 0 in column 9"):
        _native.encode_feedback("Q4_0", values, factor)
    with pytest.raises(
        ValueError, match="encoding to F16 with feedback is not supported; expected one of Q8_0"
    ):
        _native.encode_feedback("F16", values, factor)
    with pytest.raises(ValueError, match="expected finite numbers"):
        feedback_factor(np.full((4, 4), np.nan))
    with pytest.raises(ValueError, match="use a larger damping"):
        feedback_factor(-np.eye(4), 0.0)
