"""The functions of the oracle, in float64 numpy. In shapes, n = positions, h = heads, d = size of a head."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from reference_config import Layer, Rope

Array = npt.NDArray[np.float64]


def rms_norm(x: Array, weight: Array | float, epsilon: float) -> Array:
    mean_square = np.mean(x * x, axis=-1, keepdims=True)
    return np.asarray(x / np.sqrt(mean_square + epsilon) * weight)


def layer_norm(x: Array, weight: Array, bias: Array, epsilon: float) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    return np.asarray(
        centred / np.sqrt(np.mean(centred**2, axis=-1, keepdims=True) + epsilon) * weight + bias
    )


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


def sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def softplus(x: Array) -> Array:
    return np.asarray(np.logaddexp(0, x))


def silu(x: Array) -> Array:
    return x * sigmoid(x)


def gelu_tanh(x: Array) -> Array:
    return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))


def gelu_erf(x: Array) -> Array:
    return np.asarray(0.5 * x * (1 + np.vectorize(math.erf, otypes=[float])(x / math.sqrt(2))))


ACTIVATIONS = {"silu": silu, "gelu_tanh": gelu_tanh, "gelu_erf": gelu_erf}


def softcap(x: Array, limit: float) -> Array:
    """Limit 0: none."""
    return limit * np.tanh(x / limit) if limit else x


# ---- RoPE --------------------------------------------------------------------------------------------------


def rope_angles(rope: Rope, n: int, factors: Array | None) -> tuple[Array, Array]:
    """Returns cosines and sines of positions 0 … n-1, (n, dims / 2) each. YaRN: arXiv:2309.00071."""
    pair = np.arange(rope.dims // 2, dtype=np.float64)
    frequency = rope.base ** (-2 * pair / rope.dims)
    if factors is not None:
        frequency = frequency / factors
    scale = rope.attention_factor
    if rope.scaling == "linear":
        frequency = frequency / rope.factor
    elif rope.scaling == "yarn":

        def pair_with_rotations(count: float) -> float:  # full rotations in the original context
            rotations = math.log(rope.original_context / (count * 2 * math.pi))
            return rope.dims * rotations / (2 * math.log(rope.base))

        low = max(math.floor(pair_with_rotations(rope.beta_fast)), 0)
        high = min(math.ceil(pair_with_rotations(rope.beta_slow)), rope.dims - 1)
        keep = 1 - np.clip((pair - low) / max(high - low, 0.001), 0, 1)
        frequency = frequency * keep + frequency / rope.factor * (1 - keep)
        scale *= 1 + 0.1 * math.log(rope.factor)
        scale /= 1 + 0.1 * rope.log_multiplier * math.log(rope.factor)
    angle = np.arange(n, dtype=np.float64)[:, None] * frequency
    return np.cos(angle) * scale, np.sin(angle) * scale


def rotate(x: Array, angles: tuple[Array, Array], rope: Rope) -> Array:
    """Applies RoPE to (n, h, d): pairs (0, 1), (2, 3)… if interleaved, else (0, dims/2), …"""
    half = rope.dims // 2
    first, second = (
        (slice(0, rope.dims, 2), slice(1, rope.dims, 2))
        if rope.interleaved
        else (slice(0, half), slice(half, rope.dims))
    )
    a, b = x[..., first], x[..., second]
    cos, sin = (part[:, None, :] for part in angles)
    out = x.copy()
    out[..., first] = a * cos - b * sin
    out[..., second] = a * sin + b * cos
    return out


# ---- mixers ------------------------------------------------------------------------------------------------


def visible(n: int, causal: bool, window: int) -> npt.NDArray[np.bool_]:
    """Returns which key (column) each query (row) sees, (n, n)."""
    distance = np.arange(n)[:, None] - np.arange(n)[None, :]
    if causal:
        return np.asarray((distance >= 0) & (distance < (window or n)))
    return np.asarray(np.abs(distance) <= (window // 2 if window else n))


def attend(q: Array, k: Array, v: Array, layer: Layer, mask: npt.NDArray[np.bool_], cap: float) -> Array:
    """Returns the mixed values, (n, h, d); q is (n, h, d), k and v are (n, KV heads, d)."""
    group = layer.heads // layer.kv_heads
    k, v = np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)
    scores = softcap(np.einsum("qhd,khd->hqk", q, k) * layer.scale, cap)
    return np.asarray(np.einsum("hqk,khd->qhd", softmax(np.where(mask, scores, -np.inf)), v))


def causal_convolution(x: Array, kernel: Array) -> Array:
    """Returns sum over j of kernel[:, j] · x[t - length + 1 + j]; x is (n, c), kernel (c, length)."""
    length = kernel.shape[1]
    padded = np.concatenate([np.zeros((length - 1, x.shape[1])), x])
    return np.asarray(sum(padded[j : j + len(x)] * kernel[:, j] for j in range(length)))


def delta_rule(q: Array, k: Array, v: Array, decay: Array, beta: Array) -> Array:
    """Returns the outputs of the gated delta rule (arXiv:2412.06464), (n, value heads, d).

    q and k are (n, key heads, d) and normalised here, v is (n, value heads, d); decay (a logarithm) and beta
    are (n, value heads). Value head i uses key head i modulo the number of key heads.
    """
    repeats = v.shape[1] // k.shape[1]
    q, k = (
        np.tile(t / np.sqrt(np.sum(t * t, axis=-1, keepdims=True) + 1e-6), (1, repeats, 1)) for t in (q, k)
    )
    state = np.zeros((v.shape[1], k.shape[2], v.shape[2]))  # one matrix key → value for each value head
    out = np.empty_like(v)
    for t in range(len(v)):
        state *= np.exp(decay[t])[:, None, None]
        error = (v[t] - np.einsum("hk,hkv->hv", k[t], state)) * beta[t][:, None]
        state += np.einsum("hk,hv->hkv", k[t], error)
        out[t] = np.einsum("hk,hkv->hv", q[t], state) / math.sqrt(k.shape[2])
    return out
