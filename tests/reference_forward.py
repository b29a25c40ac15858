"""The oracle: a float64 forward pass of llama, qwen2 and qwen3 on a GGUF file, written to be read.

It shares no code with the core: the gguf package reads and dequantizes the file, numpy computes. transformers
and llama.cpp agree with it (tests/goldens/). In shapes, n = positions, d = width, v = vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Config:
    """Sizes and constants from the keys of the file."""

    architecture: str
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    epsilon: float
    rope_dims: int
    rope_base: float
    rope_scaling: str  # "none", "linear" or "yarn"
    rope_factor: float
    rope_original_context: int
    rope_attention_factor: float
    beta_fast: float
    beta_slow: float


class ReferenceModel:
    """A model with the weights of a GGUF file in float64."""

    def __init__(self, path: Path | str) -> None:
        reader = gguf.GGUFReader(path)
        self.keys = {name: field.contents() for name, field in reader.fields.items()}
        self.config = _read_config(self.keys)
        self.weights: dict[str, Array] = {
            tensor.name: gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float64)
            for tensor in reader.tensors
        }

    def logits(self, tokens: list[int]) -> Array:
        """Returns the next-token logits after each of ``tokens``, (n, v)."""
        w, c = self.weights, self.config
        x = w["token_embd.weight"][tokens]  # (n, d)
        cos, sin = rope_angles(c, len(tokens), w.get("rope_freqs.weight"))
        for i in range(c.layers):
            x = x + self._attention(rms_norm(x, w[f"blk.{i}.attn_norm.weight"], c.epsilon), i, cos, sin)
            x = x + self._feed_forward(rms_norm(x, w[f"blk.{i}.ffn_norm.weight"], c.epsilon), i)
        x = rms_norm(x, w["output_norm.weight"], c.epsilon)
        return x @ w.get("output.weight", w["token_embd.weight"]).T

    def greedy(self, tokens: list[int], count: int, ends: tuple[int, ...] = ()) -> list[int]:
        """Returns up to ``count`` greedy tokens; stops before the first of ``ends``."""
        out: list[int] = []
        while len(out) < count:
            token = int(self.logits(tokens + out)[-1].argmax())
            if token in ends:
                break
            out.append(token)
        return out

    def _linear(self, x: Array, name: str) -> Array:
        y: Array = x @ self.weights[f"{name}.weight"].T
        bias = self.weights.get(f"{name}.bias")
        return y if bias is None else y + bias

    def _attention(self, x: Array, layer: int, cos: Array, sin: Array) -> Array:
        c, blk = self.config, f"blk.{layer}"
        n = len(x)
        q = self._linear(x, f"{blk}.attn_q").reshape(n, c.heads, c.head_dim)
        k = self._linear(x, f"{blk}.attn_k").reshape(n, c.kv_heads, c.head_dim)
        v = self._linear(x, f"{blk}.attn_v").reshape(n, c.kv_heads, c.head_dim)
        if f"{blk}.attn_q_norm.weight" in self.weights:
            q = rms_norm(q, self.weights[f"{blk}.attn_q_norm.weight"], c.epsilon)
            k = rms_norm(k, self.weights[f"{blk}.attn_k_norm.weight"], c.epsilon)
        interleaved = c.architecture == "llama"
        q, k = (rotate(t, cos, sin, c.rope_dims, interleaved) for t in (q, k))
        group = c.heads // c.kv_heads
        k, v = np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)
        scores = np.einsum("qhd,khd->hqk", q, k) / math.sqrt(c.head_dim)
        scores = np.where(np.tri(n, dtype=bool), scores, -np.inf)
        mixed = np.einsum("hqk,khd->qhd", softmax(scores), v)
        return self._linear(mixed.reshape(n, c.heads * c.head_dim), f"{blk}.attn_output")

    def _feed_forward(self, x: Array, layer: int) -> Array:
        gate = self._linear(x, f"blk.{layer}.ffn_gate")
        up = self._linear(x, f"blk.{layer}.ffn_up")
        return self._linear(gate / (1 + np.exp(-gate)) * up, f"blk.{layer}.ffn_down")


def _read_config(keys: dict[str, Any]) -> Config:
    architecture = keys["general.architecture"]

    def get(key: str, default: Any = None) -> Any:
        return keys.get(f"{architecture}.{key}", default)

    heads = get("attention.head_count")
    head_dim = get("attention.key_length", get("embedding_length") // heads)
    return Config(
        architecture=architecture,
        layers=get("block_count"),
        heads=heads,
        kv_heads=get("attention.head_count_kv", heads),
        head_dim=head_dim,
        epsilon=get("attention.layer_norm_rms_epsilon"),
        rope_dims=get("rope.dimension_count", head_dim),
        rope_base=get("rope.freq_base", 10000.0),
        rope_scaling=get("rope.scaling.type", "none"),
        rope_factor=get("rope.scaling.factor", 1.0),
        rope_original_context=get("rope.scaling.original_context_length", get("context_length")),
        rope_attention_factor=get("rope.scaling.attn_factor", 1.0),
        beta_fast=get("rope.scaling.yarn_beta_fast", 32.0),
        beta_slow=get("rope.scaling.yarn_beta_slow", 1.0),
    )


def rms_norm(x: Array, weight: Array, epsilon: float) -> Array:
    mean_square = np.mean(x * x, axis=-1, keepdims=True)
    return np.asarray(x / np.sqrt(mean_square + epsilon) * weight)


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


def rope_angles(c: Config, n: int, factors: Array | None) -> tuple[Array, Array]:
    """Returns cosines and sines of positions 0 … n-1, (n, rope_dims / 2) each. YaRN: arXiv:2309.00071."""
    pair = np.arange(c.rope_dims // 2, dtype=np.float64)
    frequency = c.rope_base ** (-2 * pair / c.rope_dims)
    if factors is not None:
        frequency = frequency / factors
    scale = 1.0
    if c.rope_scaling == "linear":
        frequency = frequency / c.rope_factor
    elif c.rope_scaling == "yarn":

        def pair_with_rotations(count: float) -> float:  # full rotations in the original context
            return (
                c.rope_dims
                * math.log(c.rope_original_context / (count * 2 * math.pi))
                / (2 * math.log(c.rope_base))
            )

        low = max(math.floor(pair_with_rotations(c.beta_fast)), 0)
        high = min(math.ceil(pair_with_rotations(c.beta_slow)), c.rope_dims - 1)
        keep = 1 - np.clip((pair - low) / max(high - low, 0.001), 0, 1)
        frequency = frequency * keep + frequency / c.rope_factor * (1 - keep)
        scale = c.rope_attention_factor * (1 + 0.1 * math.log(c.rope_factor))
    angle = np.arange(n, dtype=np.float64)[:, None] * frequency
    return np.cos(angle) * scale, np.sin(angle) * scale


def rotate(x: Array, cos: Array, sin: Array, dims: int, interleaved: bool) -> Array:
    """Applies RoPE to (n, heads, head_dim): pairs (0, 1), (2, 3)… if interleaved, else (0, dims/2), …"""
    half = dims // 2
    first, second = (
        (slice(0, dims, 2), slice(1, dims, 2)) if interleaved else (slice(0, half), slice(half, dims))
    )
    a, b = x[..., first], x[..., second]
    cos, sin = cos[:, None, :], sin[:, None, :]
    out = x.copy()
    out[..., first] = a * cos - b * sin
    out[..., second] = a * sin + b * cos
    return out


# ---- measures ----------------------------------------------------------------------------------------------


def log_softmax(x: npt.NDArray[Any]) -> Array:
    x = x.astype(np.float64)
    x = x - x.max(axis=-1, keepdims=True)
    return np.asarray(x - np.log(np.exp(x).sum(axis=-1, keepdims=True)))


def divergences(expected: npt.NDArray[Any], got: npt.NDArray[Any]) -> Array:
    """Returns KL(expected ‖ got) of next-token distributions, in nats, (n,), from logits (n, v)."""
    p, q = log_softmax(expected), log_softmax(got)
    return np.asarray(np.sum(np.exp(p) * (p - q), axis=-1))


def mean_kl(expected: npt.NDArray[Any], got: npt.NDArray[Any]) -> float:
    """Returns the mean of divergences(), in nats."""
    return float(divergences(expected, got).mean())


def top1_agreement(expected: npt.NDArray[Any], got: npt.NDArray[Any]) -> float:
    """Returns the share of positions where both have the same most likely token."""
    return float(np.mean(expected.argmax(axis=-1) == got.argmax(axis=-1)))
