"""The gated delta rule of every kernel table, compared with float64 numpy and with transformers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from binhdan import _native

Array = npt.NDArray[Any]

# Errors of float32 updates over up to 500 rows, relative to the largest output or element of the state.
TOLERANCE = 5e-6

every_kernel = pytest.mark.parametrize("isa", _native.isas())
both_classes = pytest.mark.parametrize("chunks", [False, True], ids=["step", "chunk"])


def random_head(
    rows: int, key_dim: int, value_dim: int, decay_scale: float, seed: int = 1
) -> tuple[Array, Array, Array, Array, Array, Array]:
    """q, k, v, decay, beta and state of one head, float32. The keys resemble each other."""
    rng = np.random.default_rng(seed)

    def normalised(x: Array) -> Array:
        lengths: Array = np.linalg.norm(x, axis=1, keepdims=True)
        return np.divide(x, lengths, dtype=np.float32, casting="same_kind")

    return (
        normalised(rng.standard_normal((rows, key_dim))) / np.sqrt(np.float32(key_dim)),
        normalised(rng.standard_normal((rows, key_dim)) + 0.5),
        rng.standard_normal((rows, value_dim)).astype(np.float32),
        (-decay_scale * rng.exponential(size=rows)).astype(np.float32),
        rng.random(rows).astype(np.float32),
        rng.standard_normal((key_dim, value_dim)).astype(np.float32),
    )


def recurrence(q: Array, k: Array, v: Array, decay: Array, beta: Array, state: Array) -> tuple[Array, Array]:
    """Outputs and state by the definition, in float64."""
    q, k, v, decay, beta, state = (x.astype(np.float64) for x in (q, k, v, decay, beta, state))
    out = np.empty_like(v)
    for i in range(len(q)):
        state = np.exp(decay[i]) * state
        state = state + np.outer(k[i], beta[i] * (v[i] - k[i] @ state))
        out[i] = q[i] @ state
    return out, state


def error(got: Array, want: Array) -> float:
    """The largest difference, relative to the largest magnitude."""
    return float(np.abs(got - want).max() / np.abs(want).max())


@every_kernel
@both_classes
@pytest.mark.parametrize("decay_scale", [0, 1e-4, 0.1, 30])
def test_delta_rule_agrees_with_float64(isa: str, chunks: bool, decay_scale: float) -> None:
    head = random_head(500, 128, 128, decay_scale)
    out, state = _native.delta_rule(isa, *head, chunks)
    want_out, want_state = recurrence(*head)
    assert error(out, want_out) < TOLERANCE
    assert error(state, want_state) < TOLERANCE


@every_kernel
@both_classes
def test_delta_rule_agrees_with_transformers(isa: str, chunks: bool) -> None:
    torch = pytest.importorskip("torch", reason="requires torch and transformers as the oracle")
    qwen = pytest.importorskip("transformers.models.qwen3_5.modeling_qwen3_5")
    q, k, v, decay, beta, state = random_head(150, 128, 64, 0.1)
    # transformers scales q itself; its axes are batch, rows, heads, columns.
    unscaled = q * np.sqrt(np.float32(q.shape[1]))
    rows = [torch.from_numpy(x)[None, :, None] for x in (unscaled, k, v, decay, beta)]
    rule = qwen.torch_chunk_gated_delta_rule if chunks else qwen.torch_recurrent_gated_delta_rule
    want_out, want_state = rule(
        *rows[:3],
        g=rows[3],
        beta=rows[4],
        initial_state=torch.from_numpy(state)[None, None],
        output_final_state=True,
    )
    out, next_state = _native.delta_rule(isa, q, k, v, decay, beta, state, chunks)
    assert error(out, want_out[0, :, 0].numpy()) < TOLERANCE
    assert error(next_state, want_state[0, 0].numpy()) < TOLERANCE


@every_kernel
@both_classes
def test_rows_in_two_calls_have_the_same_bits(isa: str, chunks: bool) -> None:
    q, k, v, decay, beta, state = random_head(150, 64, 96, 0.1)
    want_out, want_state = _native.delta_rule(isa, q, k, v, decay, beta, state, chunks)
    outs = []
    for rows in (slice(64), slice(64, None)):
        out, state = _native.delta_rule(
            isa, q[rows], k[rows], v[rows], decay[rows], beta[rows], state, chunks
        )
        outs.append(out)
    assert np.array_equal(np.concatenate(outs), want_out)
    assert np.array_equal(state, want_state)


def test_sizes_are_checked() -> None:
    q, k, v, decay, beta, state = random_head(3, 64, 64, 0.1)
    with pytest.raises(ValueError, match="columns of k: expected a positive multiple of 8, got 63"):
        _native.delta_rule("scalar", q[:, 1:], k[:, 1:], v, decay, beta, state, False)
    with pytest.raises(ValueError, match="rows of v: expected 3, got 2"):
        _native.delta_rule("scalar", q, k, v[1:], decay, beta, state, False)
    with pytest.raises(ValueError, match="state: expected 4096, got 4032"):
        _native.delta_rule("scalar", q, k, v, decay, beta, state[1:], False)
