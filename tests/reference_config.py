"""The configuration of the oracle: keys of a GGUF file, as llama.cpp defines them, per layer.

Facts that no key states are in the tables below. Sources: llama.cpp `src/models/FAMILY.cpp` and
`src/llama-model.cpp`, and the modeling files of transformers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

Keys = dict[str, Any]
Mixer = Literal["attention", "delta_net", "short_convolution"]

INTERLEAVED: Final = ("llama", "granite", "smollm3", "mistral3")  # RoPE on pairs (0, 1), (2, 3), …
GEMMA: Final = ("gemma", "gemma2", "gemma3", "gemma4", "gemma-embedding")
ENCODERS: Final = ("bert", "gemma-embedding")
# Layers with a window, if the file has a window and no pattern: all but every Nth; 0 means all layers.
WINDOW_PERIOD: Final = {"gemma2": 2, "gemma3": 6, "gemma-embedding": 6, "phi3": 0, "lfm2": 0, "lfm2moe": 0}
LOCAL_ROPE: Final = (
    "gemma3",
    "gemma4",
    "gemma-embedding",
)  # own RoPE, without scaling, in layers with a window
LAYERS_OF_27B: Final = {"gemma2": 46, "gemma3": 62}  # attention scale from the width, not from the head


@dataclass(frozen=True)
class Rope:
    """Rotary position embedding of a layer."""

    dims: int  # the first dims of a head are rotated
    base: float
    interleaved: bool
    scaling: str = "linear"  # or "yarn" or "none"
    factor: float = 1.0
    original_context: int = 0
    attention_factor: float = 1.0  # of cosines and sines
    log_multiplier: float = 0.0  # YaRN: mscale_all_dim in transformers
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    factors: str | None = None  # tensor of divisors of the frequencies


@dataclass(frozen=True)
class Layer:
    mixer: Mixer
    heads: int
    kv_heads: int
    head_dim: int
    scale: float  # of the scores
    window: int  # 0: none. Causal: the number of visible positions. Else: twice the largest distance
    rope: Rope | None
    kv_layer: int  # whose keys and values this layer reads


@dataclass(frozen=True)
class Config:
    architecture: str
    layers: tuple[Layer, ...]
    epsilon: float
    activation: Literal["silu", "gelu_tanh", "gelu_erf"]
    causal: bool
    embedding_scale: float
    residual_scale: float
    logit_scale: float  # logits are divided by it
    logit_softcap: float
    attention_softcap: float
    temperature: float  # queries grow by its product with the logarithm of the position
    original_context: int
    pooling: Literal["none", "mean", "cls", "last", "rank"]
    key_heads: int  # of the delta net
    experts_used: int
    expert_gating: Literal["softmax", "sigmoid"]
    expert_weights_norm: bool


def read_config(keys: Keys, tensors: set[str], context: int | None) -> Config:
    """``context`` chooses between long and short RoPE factors; None means the context of the file."""
    architecture = keys["general.architecture"]
    width = _get(keys, "embedding_length")
    default_softcaps = (50.0, 30.0) if architecture == "gemma2" else (0.0, 0.0)
    return Config(
        architecture=architecture,
        layers=_read_layers(keys, tensors, context),
        epsilon=_get(keys, "attention.layer_norm_rms_epsilon", _get(keys, "attention.layer_norm_epsilon")),
        activation="gelu_tanh" if architecture in GEMMA else "gelu_erf" if architecture == "bert" else "silu",
        causal=_get(keys, "attention.causal", architecture not in ENCODERS),
        embedding_scale=_get(keys, "embedding_scale", math.sqrt(width) if architecture in GEMMA else 1.0),
        residual_scale=_get(keys, "residual_scale", 1.0),
        logit_scale=_get(keys, "logit_scale", 1.0),
        attention_softcap=_get(keys, "attn_logit_softcapping", default_softcaps[0]),
        logit_softcap=_get(keys, "final_logit_softcapping", default_softcaps[1]),
        temperature=_get(keys, "attention.temperature_scale", 0.0),
        original_context=_original_context(keys),
        pooling=("none", "mean", "cls", "last", "rank")[_get(keys, "pooling_type", 0)],
        key_heads=_get(keys, "ssm.group_count", 0),
        experts_used=_get(keys, "expert_used_count", 0),
        expert_gating="sigmoid" if _get(keys, "expert_gating_func", 1) == 2 else "softmax",
        expert_weights_norm=True,
    )


def _get(keys: Keys, key: str, default: Any = None) -> Any:
    return keys.get(f"{keys['general.architecture']}.{key}", default)


def _original_context(keys: Keys) -> int:
    return int(_get(keys, "rope.scaling.original_context_length", _get(keys, "context_length")))


def _read_layers(keys: Keys, tensors: set[str], context: int | None) -> tuple[Layer, ...]:
    architecture = keys["general.architecture"]
    count = _get(keys, "block_count") - _get(keys, "nextn_predict_layers", 0)

    def each(key: str, default: Any) -> list[Any]:
        value = _get(keys, key, default)
        return list(value) if isinstance(value, list) else [value] * count

    heads = each("attention.head_count", None)
    kv_heads = each("attention.head_count_kv", heads)
    width = _get(keys, "embedding_length")
    head_dim = _get(keys, "attention.key_length", width // heads[0])
    local_head_dim = _get(keys, "attention.key_length_swa", head_dim)
    window = _get(keys, "attention.sliding_window", 4096 if architecture == "gemma2" else 0)
    local = _local_layers(keys, count)
    mixers = _mixers(keys, kv_heads, count)
    own_kv = count - _get(keys, "attention.shared_kv_layers", 0)
    layers = []
    for i in range(count):
        dim = local_head_dim if local[i] else head_dim
        layers.append(
            Layer(
                mixer=mixers[i],
                heads=heads[i],
                kv_heads=kv_heads[i],
                head_dim=dim,
                scale=_attention_scale(keys, dim),
                window=window if local[i] else 0,
                rope=_rope(keys, tensors, i, dim, local[i], context),
                kv_layer=i if i < own_kv else max(j for j in range(own_kv) if local[j] == local[i]),
            )
        )
    return tuple(layers)


def _local_layers(keys: Keys, count: int) -> list[bool]:
    """Returns which layers have a window."""
    architecture = keys["general.architecture"]
    has_window = architecture == "gemma2" or _get(keys, "attention.sliding_window", 0) > 0
    pattern = _get(keys, "attention.sliding_window_pattern", WINDOW_PERIOD.get(architecture, 1))
    if not has_window:
        return [False] * count
    if isinstance(pattern, list):
        return [bool(local) for local in pattern]
    return [pattern == 0 or i % pattern < pattern - 1 for i in range(count)]


def _mixers(keys: Keys, kv_heads: list[int], count: int) -> list[Mixer]:
    architecture = keys["general.architecture"]
    if architecture in ("lfm2", "lfm2moe"):
        return ["attention" if n > 0 else "short_convolution" for n in kv_heads]
    if architecture in ("qwen35", "qwen35moe"):
        interval = _get(keys, "full_attention_interval", 4)
        default = [(i + 1) % interval != 0 for i in range(count)]
        recurrent = _get(keys, "attention.recurrent_layers", default)
        return ["delta_net" if recurrent[i] else "attention" for i in range(count)]
    return ["attention"] * count


def _attention_scale(keys: Keys, head_dim: int) -> float:
    architecture = keys["general.architecture"]
    if architecture == "gemma4":
        return 1.0
    if LAYERS_OF_27B.get(architecture) == _get(keys, "block_count"):
        return 1 / math.sqrt(_get(keys, "embedding_length") // _get(keys, "attention.head_count"))
    return float(_get(keys, "attention.scale", 0.0)) or 1 / math.sqrt(head_dim)


def _rope(
    keys: Keys, tensors: set[str], layer: int, head_dim: int, local: bool, context: int | None
) -> Rope | None:
    architecture = keys["general.architecture"]
    if (
        architecture == "bert"
        or (architecture == "smollm3" and (layer + 1) % 4 == 0)
        or (architecture == "granite" and not _get(keys, "rope.scaling.finetuned", True))
    ):
        return None
    dims = _get(keys, "rope.dimension_count", head_dim)
    base = _get(keys, "rope.freq_base", 10000.0)
    interleaved = architecture in INTERLEAVED
    if local and architecture in LOCAL_ROPE:
        local_dims = _get(keys, "rope.dimension_count_swa", dims)
        return Rope(local_dims, _get(keys, "rope.freq_base_swa", 10000.0), interleaved)
    rope = Rope(
        dims,
        base,
        interleaved,
        scaling=_get(keys, "rope.scaling.type", "linear"),
        factor=_get(keys, "rope.scaling.factor", _get(keys, "rope.scale_linear", 1.0)),
        original_context=_original_context(keys),
        attention_factor=_get(keys, "rope.scaling.attn_factor", 1.0),
        log_multiplier=_get(keys, "rope.scaling.yarn_log_multiplier", 0.0),
        beta_fast=_get(keys, "rope.scaling.yarn_beta_fast", 32.0),
        beta_slow=_get(keys, "rope.scaling.yarn_beta_slow", 1.0),
        factors=_rope_factors(keys, tensors, context),
    )
    return replace(rope, base=_get(keys, "rope.freq_base_swa", base)) if local else rope


def _rope_factors(keys: Keys, tensors: set[str], context: int | None) -> str | None:
    long = (context or _get(keys, "context_length")) > _original_context(keys)
    names = ("rope_freqs.weight", f"rope_factors_{'long' if long else 'short'}.weight")
    return next((name for name in names if name in tensors), None)
