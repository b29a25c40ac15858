"""LFM2: short convolutions, and attention in some layers. LFM2-MoE adds experts."""

from __future__ import annotations

from typing import Final

from binhdan.quantize.config import Config
from binhdan.quantize.families.family import Constant, Count, Family, Layer, Number, Size, Sizes, Tensor
from binhdan.quantize.families.sizes import (
    DECODER_KEYS,
    EMBEDDING,
    FULL,
    OUTPUT,
    QKV,
    VOCABULARY_SIZE,
    change_layers,
    decoder_sizes,
    only,
    with_layer_types,
)

_CONV: Final = "conv"
_DENSE: Final = "dense"
_EXPERTS: Final = "experts"


def _lfm2_sizes(c: Config) -> Sizes:
    sizes = decoder_sizes(c)
    if not c.has("layer_types") and c.has("full_attn_idxs"):
        attention = c.counts("full_attn_idxs")
        sizes = Sizes(
            sizes.model,
            [
                Layer(layer.dims, frozenset({FULL if i in attention else _CONV}))
                for i, layer in enumerate(sizes.layers)
            ],
        )
    with_layer_types(sizes, (FULL, _CONV))
    width = sizes.model["width"]
    sizes.model.update(convolution_width=3 * width, convolution_kernel=c.integer("conv_L_cache", 1, 1024, 3))
    feed_forward = _feed_forward(c, sizes.layers[0].dims["feed_forward"])

    def change(i: int, layer: Layer) -> tuple[dict[str, int], set[str]]:
        kv_heads = layer.dims["kv_heads"] if FULL in layer.tags else 0
        return {"kv_heads": kv_heads, "feed_forward": feed_forward}, {_DENSE}

    return change_layers(sizes, change)


def _feed_forward(c: Config, size: int) -> int:
    """Returns the width that transformers' Lfm2MLP computes from intermediate_size."""
    if not c.flag("block_auto_adjust_ff_dim", False):
        return size
    size = int(2 * size / 3)
    if c.has("block_ffn_dim_multiplier"):
        size = int(c.number("block_ffn_dim_multiplier") * size)
    multiple = c.integer("block_multiple_of", 1, 1 << 20, 256)
    return multiple * ((size + multiple - 1) // multiple)


_LAYER: Final = (
    Tensor("operator_norm.weight", "attn_norm.weight", ("width",)),
    *only(
        FULL,
        (
            *QKV,
            Tensor("self_attn.q_layernorm.weight", "attn_q_norm.weight", ("head_dim",)),
            Tensor("self_attn.k_layernorm.weight", "attn_k_norm.weight", ("head_dim",)),
            Tensor("self_attn.out_proj.weight", "attn_output.weight", ("width", "q_width")),
        ),
    ),
    *only(
        _CONV,
        (
            Tensor("conv.in_proj.weight", "shortconv.in_proj.weight", ("convolution_width", "width")),
            Tensor("conv.conv.weight", "shortconv.conv.weight", ("width", 1, "convolution_kernel"), f32=True),
            Tensor("conv.out_proj.weight", "shortconv.out_proj.weight", ("width", "width")),
        ),
    ),
    Tensor("ffn_norm.weight", "ffn_norm.weight", ("width",)),
    *only(
        _DENSE,
        (
            Tensor("feed_forward.w1.weight", "ffn_gate.weight", ("feed_forward", "width")),
            Tensor("feed_forward.w3.weight", "ffn_up.weight", ("feed_forward", "width")),
            Tensor("feed_forward.w2.weight", "ffn_down.weight", ("width", "feed_forward")),
        ),
    ),
)
_MODEL: Final = (EMBEDDING, Tensor("embedding_norm.weight", "token_embd_norm.weight", ("width",)), OUTPUT)
_KEYS: Final = (
    *DECODER_KEYS,
    Number("attention.layer_norm_rms_epsilon", "norm_eps", 1e-5),
    VOCABULARY_SIZE,
    Size("shortconv.l_cache", "convolution_kernel"),
)
_DEFAULTS: Final = {"rope_theta": 1_000_000.0}

LFM2: Final = Family(
    "lfm2",
    classes=("Lfm2ForCausalLM",),
    keys=_KEYS,
    model=_MODEL,
    layer=_LAYER,
    sizes=_lfm2_sizes,
    expects={"conv_bias": (False,)},
    defaults=_DEFAULTS,
)


def _lfm2moe_sizes(c: Config) -> Sizes:
    sizes = _lfm2_sizes(c)
    dense = c.integer("num_dense_layers", 0, 4096, 2)
    sizes.model.update(
        experts=c.integer("num_experts", 1, 1 << 14),
        expert_width=c.integer("moe_intermediate_size", 1, 1 << 20),
    )
    layers = [
        layer if i < dense else Layer(layer.dims, layer.tags - {_DENSE} | {_EXPERTS})
        for i, layer in enumerate(sizes.layers)
    ]
    return Sizes(sizes.model, layers)


LFM2MOE: Final = Family(
    "lfm2moe",
    classes=("Lfm2MoeForCausalLM",),
    keys=(
        *_KEYS,
        Size("expert_count", "experts"),
        Size("expert_feed_forward_length", "expert_width"),
        Count("expert_used_count", "num_experts_per_tok", 4),
        Count("leading_dense_block_count", "num_dense_layers", 2),
        Constant("expert_gating_func", 2),  # sigmoid
    ),
    model=_MODEL,
    layer=(
        *_LAYER,
        *only(
            _EXPERTS,
            (
                Tensor("feed_forward.gate.weight", "ffn_gate_inp.weight", ("experts", "width"), f32=True),
                Tensor("feed_forward.expert_bias", "exp_probs_b.bias", ("experts",)),
                Tensor(
                    "feed_forward.experts.{expert}.w1.weight",
                    "ffn_gate_exps.weight",
                    ("expert_width", "width"),
                ),
                Tensor(
                    "feed_forward.experts.{expert}.w3.weight", "ffn_up_exps.weight", ("expert_width", "width")
                ),
                Tensor(
                    "feed_forward.experts.{expert}.w2.weight",
                    "ffn_down_exps.weight",
                    ("width", "expert_width"),
                ),
            ),
        ),
    ),
    sizes=_lfm2moe_sizes,
    # GGUF has no keys for them: readers assume these values
    expects={
        "conv_bias": (False,),
        "norm_topk_prob": (True,),
        "use_expert_bias": (True,),
        "routed_scaling_factor": (1.0, 1),
    },
    defaults=_DEFAULTS,
)
