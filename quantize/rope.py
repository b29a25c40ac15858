"""Reads RoPE (Su et al. 2021, arXiv:2104.09864) from config.json and returns its GGUF keys and tensors.

config.json has rope_parameters (transformers 5), or rope_theta, rope_local_base_freq and rope_scaling
(transformers 4). rope_parameters may be nested: one object each for full_attention and sliding_attention.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from binhdan.quantize.checkpoint import CheckpointError
from binhdan.quantize.config import Config
from binhdan.quantize.families.family import Family, Sizes, Value

_FULL: Final = "full_attention"
_SLIDING: Final = "sliding_attention"
_NOT_ROTATED: Final = 1e30  # a divisor of a frequency: the angle is 0


@dataclass
class Rope:
    """RoPE as GGUF has it."""

    context: int  # positions for which the model is made
    keys: dict[str, Value] = field(default_factory=dict)  # without the prefix "ARCHITECTURE."
    tensors: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)


def read_rope(c: Config, family: Family, sizes: Sizes) -> Rope:
    """Returns the keys, tensors and context length. Raises CheckpointError for what GGUF cannot express."""
    context = c.integer(family.context_field, 1, 1 << 30)
    if not family.rope:
        return Rope(context)
    full, sliding = _split_by_layer_type(c, family)
    kind = _kind(full, family.rope_types)
    rope = Rope(context)
    head_dim = _head_dim(sizes, _FULL)
    dimension = head_dim if kind == "proportional" else _rotated(full, c, family, head_dim)
    base = _base(full, c, "rope_theta")
    rope.keys = {"rope.dimension_count": dimension, "rope.freq_base": base}
    _READERS[kind](rope, full, c, base, dimension)
    if family.sliding_rope:
        if _kind(sliding, ("default",)) == "default":
            rope.keys["rope.freq_base_swa"] = _base(sliding, c, "rope_local_base_freq")
        if family.has_key("attention.key_length_swa"):
            size = _head_dim(sizes, _SLIDING)
            rope.keys["rope.dimension_count_swa"] = _rotated(sliding, c, family, size)
    return rope


# ---- parts of config.json ----------------------------------------------------------------------------------


def _split_by_layer_type(c: Config, family: Family) -> tuple[Config, Config]:
    """Returns the parameters of full attention layers, and of sliding attention layers."""
    key = next((key for key in ("rope_parameters", "rope_scaling") if c.has(key)), None)
    if key is None:
        return Config({}, "config.json: rope", c.notes), Config({}, "config.json: rope", c.notes)
    parameters = c.part(key)
    if not any(isinstance(value, dict) for value in parameters.values.values()):
        return parameters, Config({}, parameters.name, c.notes)
    unknown = [name for name in parameters.values if name not in (_FULL, _SLIDING)]
    if unknown or _FULL not in parameters.values:
        raise CheckpointError(
            f"{parameters.name}: expected {_FULL} and {_SLIDING}, got {str(list(parameters.values))[:80]}"
        )
    full = parameters.part(_FULL)
    if not parameters.has(_SLIDING):
        return full, Config({}, parameters.name, c.notes)
    sliding_part = parameters.part(_SLIDING)
    if not family.sliding_rope and full.values != sliding_part.values:
        raise CheckpointError(
            f"{parameters.name}: expected equal parameters for all layers, got others for {_SLIDING};"
            f" GGUF's architecture {family.name!r} has one RoPE"
        )
    return full, sliding_part


def _kind(rope: Config, allowed: tuple[str, ...]) -> str:
    kind = rope.get("rope_type") or rope.get("type") or "default"
    kind = "longrope" if kind == "su" else kind
    if kind not in allowed:
        expected = ", ".join(repr(name) for name in allowed)
        raise CheckpointError(f"{rope.name}: rope_type: expected one of {expected}, got {str(kind)[:80]!r}")
    return str(kind)


def _base(rope: Config, c: Config, key: str) -> float:
    if rope.has("rope_theta"):
        return rope.number("rope_theta")
    base = c.number(key, 10000.0)
    if not c.has(key):
        c.notes.append(f"config.json has no {key}; {base:,.0f} is assumed")
    return base


def _head_dim(sizes: Sizes, tag: str) -> int:
    """Returns the head size of the layers with ``tag``, or of all layers if no layer has it."""
    layers = [layer for layer in sizes.layers if tag in layer.tags] or sizes.layers
    return sizes.dims(sizes.layers.index(layers[0]))["head_dim"]


def _rotated(rope: Config, c: Config, family: Family, head_dim: int) -> int:
    """Returns how many dimensions of a head RoPE rotates."""
    part = rope if rope.has("partial_rotary_factor") else c
    fraction = part.number("partial_rotary_factor", 1.0)
    if fraction > 1 or (fraction < 1 and not family.partial_rope):
        raise part.error("partial_rotary_factor", "at most 1" if family.partial_rope else "1")
    dimension = int(head_dim * fraction)
    if dimension < 2 or dimension % 2:
        raise part.error(
            "partial_rotary_factor", "an even number of rotated dimensions", f"{dimension} of {head_dim}"
        )
    return dimension


# ---- scalings (transformers, modeling_rope_utils.py) -------------------------------------------------------


def _read_default(rope: Rope, part: Config, c: Config, base: float, dimension: int) -> None:
    if part.has("mrope_section"):
        sections = part.counts("mrope_section")[:4]
        rope.keys["rope.dimension_sections"] = sections + [0] * (4 - len(sections))


def _read_linear(rope: Rope, part: Config, c: Config, base: float, dimension: int) -> None:
    rope.keys |= {"rope.scaling.type": "linear", "rope.scaling.factor": part.number("factor")}


def _read_yarn(rope: Rope, part: Config, c: Config, base: float, dimension: int) -> None:
    """YaRN (Peng et al. 2023, arXiv:2309.00071). The context becomes factor x original context."""
    factor = part.number("factor")
    original = _original_context(part, c, rope.context)
    part.expect("truncate", True)
    rope.keys |= {
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": factor,
        "rope.scaling.original_context_length": original,
        "rope.scaling.yarn_beta_fast": part.number("beta_fast", 32.0),
        "rope.scaling.yarn_beta_slow": part.number("beta_slow", 1.0),
    }
    extended = int(factor * original)
    if extended > 1 << 30:
        raise part.error("factor", f"at most {1 << 30:,} positions", f"{extended:,}")
    if extended > rope.context:
        c.notes.append(f"context {extended:,}: YaRN's factor {factor:g} x original context {original:,}")
        rope.context = extended

    def magnitude(scale: float) -> float:  # eq. 22; readers multiply by magnitude(1)
        return 0.1 * scale * math.log(factor) + 1.0 if factor > 1 else 1.0

    mscale, all_dim = part.get("mscale"), part.get("mscale_all_dim")
    if part.has("attention_factor"):
        rope.keys["rope.scaling.attn_factor"] = part.number("attention_factor") / magnitude(1)
    elif mscale and all_dim:
        mscale, all_dim = part.number("mscale"), part.number("mscale_all_dim")
        if mscale == 1 and part.has("llama_4_scaling_beta"):  # as llama.cpp has it for Ministral 3
            rope.keys["rope.scaling.yarn_log_multiplier"] = all_dim
        else:
            rope.keys["rope.scaling.attn_factor"] = magnitude(mscale) / magnitude(all_dim) / magnitude(1)
    if part.has("llama_4_scaling_beta"):
        rope.keys["attention.temperature_scale"] = part.number("llama_4_scaling_beta")


def _read_llama3(rope: Rope, part: Config, c: Config, base: float, dimension: int) -> None:
    rope.tensors["rope_freqs.weight"] = llama3_frequency_factors(
        base,
        dimension,
        factor=part.number("factor"),
        original_context=_original_context(part, c, rope.context),
        low=part.number("low_freq_factor", 1.0),
        high=part.number("high_freq_factor", 4.0),
    )


def _read_longrope(rope: Rope, part: Config, c: Config, base: float, dimension: int) -> None:
    """LongRoPE (Ding et al. 2024, arXiv:2402.13753). Readers choose a list by the length of the context."""
    original = _original_context(part, c, rope.context)
    for name in ("long", "short"):
        factors = np.array(part.numbers(f"{name}_factor", dimension // 2), np.float32)
        rope.tensors[f"rope_factors_{name}.weight"] = factors
    scale = rope.context / original
    attention = math.sqrt(1 + math.log(scale) / math.log(original)) if scale > 1 and original > 1 else 1.0
    rope.keys["rope.scaling.original_context_length"] = original
    rope.keys["rope.scaling.attn_factor"] = part.number("attention_factor", attention)


def _read_proportional(rope: Rope, part: Config, c: Config, base: float, dimension: int) -> None:
    """Rotates the first part of the pairs of a head; the frequencies are those of the whole head."""
    fraction = part.number("partial_rotary_factor", 1.0)
    if fraction > 1:
        raise part.error("partial_rotary_factor", "at most 1")
    part.expect("factor", 1.0)
    factors = np.full(dimension // 2, _NOT_ROTATED, np.float32)
    factors[: int(fraction * dimension / 2)] = 1
    rope.tensors["rope_freqs.weight"] = factors


_READERS: Final[dict[str, Callable[[Rope, Config, Config, float, int], None]]] = {
    "default": _read_default,
    "linear": _read_linear,
    "yarn": _read_yarn,
    "llama3": _read_llama3,
    "longrope": _read_longrope,
    "proportional": _read_proportional,
}


def _original_context(part: Config, c: Config, context: int) -> int:
    key = "original_max_position_embeddings"
    return (part if part.has(key) else c).integer(key, 1, 1 << 30, context)


def llama3_frequency_factors(
    base: float, dimension: int, *, factor: float, original_context: int, low: float, high: float
) -> npt.NDArray[np.float32]:
    """Returns the divisors of Llama 3.1's RoPE frequencies, (dimension / 2,): GGUF's rope_freqs.weight.

    The divisor is ``factor`` for wavelengths beyond the original context, 1 for short ones, and interpolated
    between them (transformers, _compute_llama3_parameters).
    """
    if low >= high:
        raise CheckpointError(
            f"config.json: RoPE: expected low_freq_factor below high_freq_factor, got {low:g} and {high:g}"
        )
    frequency = base ** -(np.arange(0, dimension, 2, dtype=np.float64) / dimension)
    turns = original_context * frequency / (2 * math.pi)  # full rotations within the original context
    smooth = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return (1.0 / ((1 - smooth) / factor + smooth)).astype(np.float32)
