"""Gemma 1 to 4 and EmbeddingGemma: GELU, norms before and after each part, embeddings scaled by √width.

config.json of a real checkpoint may lack keys; ``defaults`` are those of transformers' classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from binhdan.quantize.checkpoint import CheckpointError
from binhdan.quantize.config import Config
from binhdan.quantize.families.family import Count, Family, Layer, Number, Size, Sizes, Tagged, Tensor
from binhdan.quantize.families.sizes import (
    ATTENTION_NORM,
    ATTENTION_OUTPUT,
    DECODER,
    DECODER_KEYS,
    EMBEDDING,
    FEED_FORWARD,
    FEED_FORWARD_NORM,
    FULL,
    OUTPUT_NORM,
    QK_NORM,
    QKV,
    RMS_KEYS,
    SLIDING,
    add_one,
    change_layers,
    decoder_sizes,
    every,
    head_sizes,
    with_layer_types,
)

_GELU: Final = ("gelu_pytorch_tanh",)
_FEED_FORWARD_PRE_NORM: Final = Tensor("pre_feedforward_layernorm.weight", "ffn_norm.weight", ("width",))
_POST_NORMS: Final = (
    Tensor("post_attention_layernorm.weight", "post_attention_norm.weight", ("width",)),
    Tensor("post_feedforward_layernorm.weight", "post_ffw_norm.weight", ("width",)),
)
_SOFTCAP: Final = Number("final_logit_softcapping", "final_logit_softcapping")
_WINDOW: Final = Count("attention.sliding_window", "sliding_window", 4096)


def _check_scale(c: Config, sizes: Sizes, layers_of_27b: int) -> None:
    """GGUF has no key for the attention scale: readers derive it from the head size, or the width."""
    dims = sizes.dims(0)
    large = len(sizes.layers) == layers_of_27b
    expected = dims["width"] // dims["heads"] if large else dims["head_dim"]
    if c.number("query_pre_attn_scalar", expected) != expected:
        raise c.error("query_pre_attn_scalar", f"{expected}; readers of GGUF assume it")


GEMMA: Final = Family(
    "gemma",
    classes=("GemmaForCausalLM",),
    keys=(*DECODER_KEYS, *RMS_KEYS),
    model=add_one((EMBEDDING, OUTPUT_NORM)),
    layer=add_one((ATTENTION_NORM, *QKV, ATTENTION_OUTPUT, FEED_FORWARD_NORM, *FEED_FORWARD)),
    sizes=decoder_sizes,
    # Gemma 1 was published with hidden_act "gelu" and computes the tanh approximation
    expects={"hidden_act": (*_GELU, "gelu"), "hidden_activation": _GELU},
    defaults={"head_dim": 256, "tie_word_embeddings": True},
)


def _sizes_with_windows(period: int) -> Callable[[Config], Sizes]:
    """Returns a sizes function; without layer_types, every ``period``-th layer has full attention."""

    def sizes(c: Config) -> Sizes:
        sizes = decoder_sizes(c)
        if not c.has("layer_types"):
            pattern = c.integer("sliding_window_pattern", 1, 4096, period)
            flags = every(pattern)(len(sizes.layers))
            tags = [frozenset({SLIDING if flag else FULL}) for flag in flags]
            layers = [Layer(layer.dims, tag) for layer, tag in zip(sizes.layers, tags, strict=True)]
            sizes = Sizes(sizes.model, layers)
        return with_layer_types(sizes, (FULL, SLIDING))

    return sizes


GEMMA2: Final = Family(
    "gemma2",
    classes=("Gemma2ForCausalLM",),
    keys=(
        *DECODER_KEYS,
        *RMS_KEYS,
        _WINDOW,
        Tagged("attention.sliding_window_pattern", SLIDING, unless=every(2)),
        Number("attn_logit_softcapping", "attn_logit_softcapping", 50.0),
        Number("final_logit_softcapping", "final_logit_softcapping", 30.0),
    ),
    model=add_one((EMBEDDING, OUTPUT_NORM)),
    layer=add_one(
        (ATTENTION_NORM, *QKV, ATTENTION_OUTPUT, _FEED_FORWARD_PRE_NORM, *FEED_FORWARD, *_POST_NORMS)
    ),
    sizes=_sizes_with_windows(2),
    expects={"hidden_activation": _GELU},
    defaults={"head_dim": 256, "tie_word_embeddings": True},
    check=lambda c, sizes: _check_scale(c, sizes, 46),
)

_GEMMA3_LAYER: Final = add_one(
    (ATTENTION_NORM, *QKV, *QK_NORM, ATTENTION_OUTPUT, _FEED_FORWARD_PRE_NORM, *FEED_FORWARD, *_POST_NORMS)
)
_GEMMA3_KEYS: Final = (
    *DECODER_KEYS,
    *RMS_KEYS,
    _WINDOW,
    Tagged("attention.sliding_window_pattern", SLIDING, unless=every(6)),
)
_GEMMA3_DEFAULTS: Final = {
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "vocab_size": 262_208,
    "max_position_embeddings": 131_072,
    "rope_theta": 1_000_000.0,
    "rope_local_base_freq": 10_000.0,
    "tie_word_embeddings": True,
}

GEMMA3: Final = Family(
    "gemma3",
    classes=("Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"),
    keys=(*_GEMMA3_KEYS, _SOFTCAP),
    model=add_one(DECODER),
    layer=_GEMMA3_LAYER,
    sizes=_sizes_with_windows(6),
    expects={
        "hidden_activation": _GELU,
        "use_bidirectional_attention": (False,),
        "attn_logit_softcapping": (),
    },
    defaults=_GEMMA3_DEFAULTS,
    check=lambda c, sizes: _check_scale(c, sizes, 62),
    rope_types=("default", "linear"),
    sliding_rope=True,
)

GEMMA_EMBEDDING: Final = Family(
    "gemma-embedding",
    classes=("Gemma3TextModel",),
    keys=_GEMMA3_KEYS,
    model=add_one((EMBEDDING, OUTPUT_NORM)),
    layer=_GEMMA3_LAYER,
    sizes=_sizes_with_windows(6),
    expects={
        "hidden_activation": _GELU,
        "attn_logit_softcapping": (),
        "use_bidirectional_attention": (True,),
    },
    defaults={**_GEMMA3_DEFAULTS, "use_bidirectional_attention": False},
    check=lambda c, sizes: _check_scale(c, sizes, 0),
    rope_types=("default", "linear"),
    sliding_rope=True,
    dense_modules=True,
)

# ---- Gemma 4 -----------------------------------------------------------------------------------------------

_OWN_KV: Final = "own_kv"  # the layer computes keys and values; the others use those of an earlier layer
_OWN_VALUES: Final = "own_values"


def _gemma4_sizes(c: Config) -> Sizes:
    sizes = with_layer_types(decoder_sizes(c), (FULL, SLIDING))
    layers = len(sizes.layers)
    shared = c.integer("num_kv_shared_layers", 0, layers - 1, 0)
    per_layer = c.integer("hidden_size_per_layer_input", 0, 1 << 16, 0)
    sizes.model.update(
        per_layer_width=per_layer, all_per_layer_width=per_layer * layers, shared_kv_layers=shared
    )
    global_head_dim = c.integer("global_head_dim", 2, 1 << 14, sizes.layers[0].dims["head_dim"])
    keys_are_values = c.flag("attention_k_eq_v", False)
    double_shared = c.flag("use_double_wide_mlp", False)

    def change(i: int, layer: Layer) -> tuple[dict[str, int], set[str]]:
        heads, kv_heads, head_dim = (layer.dims[name] for name in ("heads", "kv_heads", "head_dim"))
        if FULL in layer.tags:
            head_dim = global_head_dim
            if keys_are_values:
                kv_heads = c.integer("num_global_key_value_heads", 1, heads, kv_heads)
        own = c.part("per_layer_config").part(str(i))  # transformers 5
        head_dim = own.integer("head_dim", 2, 1 << 14, head_dim)
        kv_heads = own.integer("num_key_value_heads", 1, heads, kv_heads)
        tags = {_OWN_KV} if i < layers - shared else set()
        if tags and not (keys_are_values and FULL in layer.tags):
            tags.add(_OWN_VALUES)
        feed_forward = layer.dims["feed_forward"] * (2 if double_shared and not tags else 1)
        return {**head_sizes(heads, kv_heads, head_dim), "feed_forward": feed_forward}, tags

    sizes = change_layers(sizes, change)
    for tag, name in ((FULL, "full_head_dim"), (SLIDING, "sliding_head_dim")):
        head_dims = {layer.dims["head_dim"] for layer in sizes.layers if tag in layer.tags}
        if len(head_dims) != 1:
            raise CheckpointError(
                f"config.json: expected one head_dim for all {tag} layers, got {sorted(head_dims)}"
            )
        sizes.model[name] = head_dims.pop()
    return sizes


def _only(tag: str, tensor: Tensor) -> Tensor:
    return replace(tensor, only=tag, unused_elsewhere=True)


GEMMA4: Final = Family(
    "gemma4",
    classes=("Gemma4ForCausalLM", "Gemma4ForConditionalGeneration"),
    keys=(
        *(key for key in DECODER_KEYS if key.dim != "head_dim"),
        *RMS_KEYS,
        Size("attention.key_length", "full_head_dim"),
        Size("attention.value_length", "full_head_dim"),
        Size("attention.key_length_swa", "sliding_head_dim"),
        Size("attention.value_length_swa", "sliding_head_dim"),
        Size("attention.shared_kv_layers", "shared_kv_layers"),
        Size("embedding_length_per_layer_input", "per_layer_width"),
        Count("attention.sliding_window", "sliding_window", 512),
        Tagged("attention.sliding_window_pattern", SLIDING),
        _SOFTCAP,
    ),
    model=(
        EMBEDDING,
        OUTPUT_NORM,
        Tensor(
            "embed_tokens_per_layer.weight",
            "per_layer_token_embd.weight",
            ("vocabulary", "all_per_layer_width"),
        ),
        Tensor(
            "per_layer_model_projection.weight",
            "per_layer_model_proj.weight",
            ("all_per_layer_width", "width"),
        ),
        Tensor("per_layer_projection_norm.weight", "per_layer_proj_norm.weight", ("per_layer_width",)),
    ),
    layer=(
        ATTENTION_NORM,
        QKV[0],
        _only(_OWN_KV, QKV[1]),
        _only(_OWN_VALUES, QKV[2]),
        QK_NORM[0],
        _only(_OWN_KV, QK_NORM[1]),
        ATTENTION_OUTPUT,
        _FEED_FORWARD_PRE_NORM,
        *FEED_FORWARD,
        *_POST_NORMS,
        Tensor("layer_scalar", "layer_output_scale.weight", (1,)),
        Tensor("per_layer_input_gate.weight", "inp_gate.weight", ("per_layer_width", "width")),
        Tensor("per_layer_projection.weight", "proj.weight", ("width", "per_layer_width")),
        Tensor("post_per_layer_input_norm.weight", "post_norm.weight", ("width",)),
    ),
    sizes=_gemma4_sizes,
    expects={
        "hidden_activation": _GELU,
        "enable_moe_block": (False,),
        "use_bidirectional_attention": (False, "vision"),
    },
    defaults={
        "head_dim": 256,
        "global_head_dim": 512,
        "max_position_embeddings": 131_072,
        "tie_word_embeddings": True,
    },
    rope_types=("proportional",),
    sliding_rope=True,
    partial_rope=True,
)
