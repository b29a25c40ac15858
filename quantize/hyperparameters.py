"""Reads and checks the sizes and constants of a decoder in config.json."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from binhdan.quantize.checkpoint import CheckpointError


@dataclass(frozen=True)
class RopeScaling:
    """RoPE for positions beyond the trained context. Names and values are those of config.json."""

    kind: Literal["linear", "yarn", "llama3"]
    factor: float
    original_context: int
    attention_factor: float | None = None  # yarn
    beta_fast: float = 32.0  # yarn
    beta_slow: float = 1.0  # yarn
    low_freq_factor: float = 1.0  # llama3
    high_freq_factor: float = 4.0  # llama3


@dataclass(frozen=True)
class Hyperparameters:
    """The sizes of a decoder, read from config.json and checked."""

    vocabulary: int
    context: int
    width: int
    feed_forward: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    rms_epsilon: float
    rope_base: float
    rope_scaling: RopeScaling | None
    tied: bool  # the output matrix is the token embedding
    notes: tuple[str, ...] = ()  # remarks for the user about the conversion

    @property
    def q_width(self) -> int:
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        return self.kv_heads * self.head_dim


@dataclass
class _Config:
    """Typed access to config.json; each error names its key."""

    values: dict[str, Any]
    name: str = "config.json"
    notes: list[str] = field(default_factory=list)

    def integer(self, key: str, low: int, high: int, default: int | None = None) -> int:
        value = self.values.get(key)
        value = default if value is None else value
        if type(value) is not int or not low <= value <= high:
            got = str(value)[:80]
            raise CheckpointError(
                f"{self.name}: {key}: expected an integer from {low} to {high:,}, got {got!r}"
            )
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self.values.get(key)
        value = default if value is None else value
        if not (isinstance(value, int | float) and 1e-30 < value < 1e30):  # NaN fails both comparisons
            raise CheckpointError(f"{self.name}: {key}: expected a positive number, got {str(value)[:80]!r}")
        return float(value)

    def expect(self, key: str, expected: Any) -> None:
        value = self.values.get(key)
        if value is not None and value != expected:
            got = str(value)[:80]
            raise CheckpointError(
                f"{self.name}: {key}: expected {expected!r}, got {got!r}; other values are not supported"
            )


def read_hyperparameters(config: dict[str, Any]) -> Hyperparameters:
    """Reads and checks the keys that all architectures share. Raises CheckpointError with the key."""
    c = _Config(config)
    c.expect("hidden_act", "silu")
    c.expect("partial_rotary_factor", 1.0)
    c.expect("mlp_bias", False)
    width = c.integer("hidden_size", 1, 1 << 20)
    heads = c.integer("num_attention_heads", 1, 1 << 14)
    kv_heads = c.integer("num_key_value_heads", 1, heads, heads)
    head_dim = c.integer("head_dim", 2, 1 << 14, width // heads)
    if heads % kv_heads or head_dim % 2:
        raise CheckpointError(
            "config.json: expected num_attention_heads to be a multiple of num_key_value_heads and head_dim"
            f" to be even, got {heads}, {kv_heads} and {head_dim}"
        )
    base, scaling, context = _read_rope(c)
    return Hyperparameters(
        vocabulary=c.integer("vocab_size", 1, 1 << 24),
        context=_limit_to_window(c, context),
        width=width,
        feed_forward=c.integer("intermediate_size", 1, 1 << 22),
        layers=c.integer("num_hidden_layers", 1, 4096),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        rms_epsilon=c.number("rms_norm_eps", 1e-6),
        rope_base=base,
        rope_scaling=scaling,
        tied=config.get("tie_word_embeddings") is True,
        notes=tuple(c.notes),
    )


def _read_rope(c: _Config) -> tuple[float, RopeScaling | None, int]:
    """Returns RoPE's base, its scaling and the context length.

    Reads rope_parameters (transformers 5) or rope_scaling and rope_theta (transformers 4).
    """
    context = c.integer("max_position_embeddings", 1, 1 << 30)
    found = [c.values[key] for key in ("rope_parameters", "rope_scaling") if c.values.get(key) is not None]
    if not all(isinstance(values, dict) for values in found):
        raise CheckpointError(
            f"config.json: expected rope_parameters and rope_scaling to be objects, got {str(found)[:80]}"
        )
    rope = _Config(found[0] if found else {}, "config.json: " + ("rope_parameters" if found else "rope"))
    base = rope.number("rope_theta") if "rope_theta" in rope.values else c.number("rope_theta", 10000.0)
    kind = rope.values.get("rope_type", rope.values.get("type", "default"))
    if kind == "default":
        return base, None, context
    if kind not in ("linear", "yarn", "llama3"):
        raise CheckpointError(
            f"{rope.name}: expected rope_type 'default', 'linear', 'yarn' or 'llama3', got {kind!r}"
        )
    factor = rope.number("factor")
    original = rope.integer("original_max_position_embeddings", 1, 1 << 30, context)
    for key in ("mscale", "mscale_all_dim"):
        if kind == "yarn" and rope.values.get(key):
            raise CheckpointError(
                f"{rope.name}: {key}: expected none or 0, got {str(rope.values[key])[:80]!r}; "
                "only attention_factor is supported"
            )
    scaling = RopeScaling(
        kind=kind,
        factor=factor,
        original_context=original,
        attention_factor=(
            None if rope.values.get("attention_factor") is None else rope.number("attention_factor")
        ),
        beta_fast=rope.number("beta_fast", 32.0),
        beta_slow=rope.number("beta_slow", 1.0),
        low_freq_factor=rope.number("low_freq_factor", 1.0),
        high_freq_factor=rope.number("high_freq_factor", 4.0),
    )
    if kind == "llama3" and scaling.low_freq_factor >= scaling.high_freq_factor:
        raise CheckpointError(
            f"{rope.name}: expected low_freq_factor below high_freq_factor, "
            f"got {scaling.low_freq_factor:g} and {scaling.high_freq_factor:g}"
        )
    return base, scaling, context


def _limit_to_window(c: _Config, context: int) -> int:
    """Limits the context to the sliding window: up to there, full attention gives the same result."""
    window = c.values.get("sliding_window")
    if window is None or c.values.get("use_sliding_window") is False:
        return context
    window = c.integer("sliding_window", 1, 1 << 30)
    if window < context:
        c.notes.append(f"context reduced from {context:,} to the sliding window of {window:,} tokens")
    return min(window, context)
