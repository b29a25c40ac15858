"""What each supported architecture's checkpoint holds, and what GGUF calls it.

An architecture is a table, not a class: its tensors with their shapes in terms of the hyperparameters, and three
facts. GGUF names and keys are those of llama.cpp (gguf-py/gguf/constants.py), so that either runtime reads our files.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from binhdan.quantize.checkpoint import CheckpointError

Dim = Literal["vocabulary", "width", "feed_forward", "q_width", "kv_width", "head_dim"]
Heads = Literal["heads", "kv_heads"]


@dataclass(frozen=True)
class RopeScaling:
    """How positions past the trained context are rotated. Names and values as in a checkpoint's config."""

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
    notes: tuple[str, ...] = ()  # what a user should know about the conversion

    @property
    def q_width(self) -> int:
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        return self.kv_heads * self.head_dim


@dataclass(frozen=True)
class Weight:
    """One tensor: ``{i}`` in a name stands for the layer."""

    source: str
    target: str
    shape: tuple[Dim, ...]
    optional: bool = False
    rotated: Heads | None = None  # rows that RoPE turns, in heads

    def shape_in(self, hp: Hyperparameters) -> tuple[int, ...]:
        return tuple(getattr(hp, dim) for dim in self.shape)


@dataclass(frozen=True)
class Architecture:
    """A family of checkpoints and its GGUF name."""

    name: str  # general.architecture
    classes: tuple[str, ...]  # config.json's "architectures"
    interleaved_rope: bool  # GGUF wants pairs (0, 1), (2, 3)… of a head, where Hugging Face has (0, d/2), (1, d/2 + 1)…
    qkv_bias: bool | None  # None: where the checkpoint has them
    qk_norm: bool = False

    def weights(self, hp: Hyperparameters) -> Iterator[Weight]:
        """Every tensor of a checkpoint, optional ones included."""
        yield Weight("model.embed_tokens.weight", "token_embd.weight", ("vocabulary", "width"))
        yield Weight("model.norm.weight", "output_norm.weight", ("width",))
        if not hp.tied:
            yield Weight("lm_head.weight", "output.weight", ("vocabulary", "width"))
        for i in range(hp.layers):
            for weight in self._layer():
                yield Weight(
                    f"model.layers.{i}.{weight.source}",
                    f"blk.{i}.{weight.target}",
                    weight.shape,
                    weight.optional,
                    weight.rotated if self.interleaved_rope else None,
                )

    def _layer(self) -> Iterator[Weight]:
        yield Weight("input_layernorm.weight", "attn_norm.weight", ("width",))
        yield Weight("self_attn.q_proj.weight", "attn_q.weight", ("q_width", "width"), rotated="heads")
        yield Weight("self_attn.k_proj.weight", "attn_k.weight", ("kv_width", "width"), rotated="kv_heads")
        yield Weight("self_attn.v_proj.weight", "attn_v.weight", ("kv_width", "width"))
        if self.qkv_bias is not False:
            optional = self.qkv_bias is None
            yield Weight("self_attn.q_proj.bias", "attn_q.bias", ("q_width",), optional, "heads")
            yield Weight("self_attn.k_proj.bias", "attn_k.bias", ("kv_width",), optional, "kv_heads")
            yield Weight("self_attn.v_proj.bias", "attn_v.bias", ("kv_width",), optional)
        if self.qk_norm:
            yield Weight("self_attn.q_norm.weight", "attn_q_norm.weight", ("head_dim",))
            yield Weight("self_attn.k_norm.weight", "attn_k_norm.weight", ("head_dim",))
        yield Weight("self_attn.o_proj.weight", "attn_output.weight", ("width", "q_width"))
        yield Weight("post_attention_layernorm.weight", "ffn_norm.weight", ("width",))
        yield Weight("mlp.gate_proj.weight", "ffn_gate.weight", ("feed_forward", "width"))
        yield Weight("mlp.up_proj.weight", "ffn_up.weight", ("feed_forward", "width"))
        yield Weight("mlp.down_proj.weight", "ffn_down.weight", ("width", "feed_forward"))


ARCHITECTURES: Final = (
    Architecture("llama", ("LlamaForCausalLM", "MistralForCausalLM"), interleaved_rope=True, qkv_bias=None),
    Architecture("qwen2", ("Qwen2ForCausalLM",), interleaved_rope=False, qkv_bias=True),
    Architecture("qwen3", ("Qwen3ForCausalLM",), interleaved_rope=False, qkv_bias=False, qk_norm=True),
)

# Buffers that old checkpoints carry; they follow from the config.
IGNORED_SUFFIXES: Final = (".rotary_emb.inv_freq",)


def find_architecture(config: dict[str, Any]) -> Architecture:
    """The entry of ARCHITECTURES for a config.json. Raises CheckpointError naming what is supported."""
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and names else None
    for architecture in ARCHITECTURES:
        if name in architecture.classes:
            return architecture
    known = ", ".join(c for a in ARCHITECTURES for c in a.classes)
    raise CheckpointError(f"config.json: architecture {name!r} is not supported; expected one of {known}")


# ---- hyperparameters ------------------------------------------------------------------------------------------


@dataclass
class _Config:
    """Typed reads from config.json, each error naming its key."""

    values: dict[str, Any]
    name: str = "config.json"
    notes: list[str] = field(default_factory=list)

    def integer(self, key: str, low: int, high: int, otherwise: int | None = None) -> int:
        value = self.values.get(key)
        value = otherwise if value is None else value
        if type(value) is not int or not low <= value <= high:
            raise CheckpointError(f"{self.name}: {key}: expected an integer from {low} to {high:,}, got {value!r}")
        return value

    def number(self, key: str, otherwise: float | None = None) -> float:
        value = self.values.get(key)
        value = otherwise if value is None else value
        if type(value) not in (int, float) or not 0 < value < 1e30:  # NaN fails both comparisons
            raise CheckpointError(f"{self.name}: {key}: expected a positive number, got {value!r}")
        return float(value)

    def expect(self, key: str, *expected: Any) -> None:
        if self.values.get(key) not in expected:
            raise CheckpointError(
                f"{self.name}: {key} is {self.values[key]!r}; supported: {', '.join(map(repr, expected[1:]))}"
            )


def read_hyperparameters(config: dict[str, Any]) -> Hyperparameters:
    """Reads and checks what the supported architectures share. Raises CheckpointError naming the key."""
    c = _Config(config)
    c.expect("hidden_act", None, "silu")
    c.expect("partial_rotary_factor", None, 1, 1.0)
    c.expect("mlp_bias", None, False)
    width = c.integer("hidden_size", 1, 1 << 20)
    heads = c.integer("num_attention_heads", 1, 1 << 14)
    kv_heads = c.integer("num_key_value_heads", 1, heads, heads)
    head_dim = c.integer("head_dim", 2, 1 << 14, width // heads)
    if heads % kv_heads or head_dim % 2:
        raise CheckpointError(
            "config.json: expected num_attention_heads to be a multiple of num_key_value_heads and head_dim to be"
            f" even, got {heads}, {kv_heads} and {head_dim}"
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
    """RoPE's base, scaling and the context: transformers 5 keeps all in rope_parameters, before in rope_scaling."""
    context = c.integer("max_position_embeddings", 1, 1 << 30)
    both = [c.values[key] for key in ("rope_parameters", "rope_scaling") if c.values.get(key) is not None]
    if not all(isinstance(values, dict) for values in both):
        raise CheckpointError("config.json: expected rope_parameters and rope_scaling to be objects")
    rope = _Config(both[0] if both else {}, "config.json: " + ("rope_parameters" if both else "rope"))
    base = rope.number("rope_theta") if "rope_theta" in rope.values else c.number("rope_theta", 10000.0)
    kind = rope.values.get("rope_type", rope.values.get("type", "default"))
    if kind == "default":
        return base, None, context
    if kind not in ("linear", "yarn", "llama3"):
        raise CheckpointError(f"{rope.name}: rope_type {kind!r}; supported: 'default', 'linear', 'yarn', 'llama3'")
    factor = rope.number("factor")
    original = rope.integer("original_max_position_embeddings", 1, 1 << 30, context)
    attention = rope.values.get("attention_factor")
    if kind == "yarn" and any(rope.values.get(key) for key in ("mscale", "mscale_all_dim")):
        raise CheckpointError(f"{rope.name}: mscale is not supported")
    scaling = RopeScaling(
        kind=kind,
        factor=factor,
        original_context=original,
        attention_factor=None if attention is None else rope.number("attention_factor"),
        beta_fast=rope.number("beta_fast", 32.0),
        beta_slow=rope.number("beta_slow", 1.0),
        low_freq_factor=rope.number("low_freq_factor", 1.0),
        high_freq_factor=rope.number("high_freq_factor", 4.0),
    )
    if kind == "llama3" and scaling.low_freq_factor >= scaling.high_freq_factor:
        raise CheckpointError(f"{rope.name}: expected low_freq_factor below high_freq_factor")
    return base, scaling, context


def _limit_to_window(c: _Config, context: int) -> int:
    """Up to its window, a sliding-window model equals a full one: the context is cut there rather than wrong after."""
    window = c.values.get("sliding_window")
    if window is None or c.values.get("use_sliding_window") is False:
        return context
    window = c.integer("sliding_window", 1, 1 << 30)
    if window < context:
        c.notes.append(f"context cut from {context:,} to the sliding window of {window:,} tokens")
    return min(window, context)


# ---- RoPE -----------------------------------------------------------------------------------------------------


def interleave_rope_rows(rows: npt.NDArray[Any], heads: int) -> npt.NDArray[Any]:
    """Reorders a head's rows from halves (0 … d/2, d/2 … d) to pairs (0, d/2, 1, d/2 + 1 …); (heads * d, …) in and out."""
    half = rows.shape[0] // heads // 2
    return rows.reshape(heads, 2, half, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def llama3_frequency_factors(hp: Hyperparameters, scaling: RopeScaling) -> npt.NDArray[np.float32]:
    """Llama 3.1's divisors of the RoPE frequencies, (head_dim / 2): GGUF's rope_freqs.weight.

    Wavelengths beyond the old context are stretched by ``factor``, short ones kept, those between interpolated
    (transformers, modeling_rope_utils.py, _compute_llama3_parameters).
    """
    frequency = hp.rope_base ** -(np.arange(0, hp.head_dim, 2, dtype=np.float64) / hp.head_dim)
    turns = scaling.original_context * frequency / (2 * math.pi)  # in the original context
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    smooth = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return (1.0 / ((1 - smooth) / scaling.factor + smooth)).astype(np.float32)
