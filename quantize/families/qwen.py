"""Qwen2, Qwen3, Qwen3's mixture of experts, and Qwen3.5, which alternates attention and gated delta nets."""

from __future__ import annotations

from typing import Final

from binhdan.quantize.checkpoint import CheckpointError
from binhdan.quantize.config import Config
from binhdan.quantize.families.family import Constant, Count, Family, Layer, Size, Sizes, Tagged, Tensor
from binhdan.quantize.families.sizes import (
    ATTENTION_NORM,
    ATTENTION_OUTPUT,
    DECODER,
    DECODER_KEYS,
    FEED_FORWARD,
    FEED_FORWARD_NORM,
    FULL,
    QK_NORM,
    QKV,
    QKV_BIAS,
    RMS_KEYS,
    add_one,
    change_layers,
    decoder_sizes,
    only,
    with_layer_types,
)

_LINEAR: Final = "linear_attention"
_SILU: Final = {"hidden_act": ("silu",)}

QWEN2: Final = Family(
    "qwen2",
    classes=("Qwen2ForCausalLM",),
    keys=(*DECODER_KEYS, *RMS_KEYS),
    model=DECODER,
    layer=(ATTENTION_NORM, *QKV, *QKV_BIAS, ATTENTION_OUTPUT, FEED_FORWARD_NORM, *FEED_FORWARD),
    sizes=decoder_sizes,
    expects=_SILU,
)

QWEN3: Final = Family(
    "qwen3",
    classes=("Qwen3ForCausalLM",),
    keys=(*DECODER_KEYS, *RMS_KEYS),
    model=DECODER,
    layer=(ATTENTION_NORM, *QKV, *QK_NORM, ATTENTION_OUTPUT, FEED_FORWARD_NORM, *FEED_FORWARD),
    sizes=decoder_sizes,
    expects=_SILU,
)


def _qwen3moe_sizes(c: Config) -> Sizes:
    sizes = decoder_sizes(c)
    experts = "num_experts" if c.has("num_experts") else "num_local_experts"
    sizes.model["experts"] = c.integer(experts, 1, 1 << 14)
    sizes.model["expert_width"] = c.integer("moe_intermediate_size", 1, 1 << 20)
    return sizes


QWEN3MOE: Final = Family(
    "qwen3moe",
    classes=("Qwen3MoeForCausalLM",),
    keys=(
        *DECODER_KEYS,
        *RMS_KEYS,
        Size("expert_count", "experts"),
        Size("expert_feed_forward_length", "expert_width"),
        Count("expert_used_count", "num_experts_per_tok", 8),
    ),
    model=DECODER,
    layer=(
        ATTENTION_NORM,
        *QKV,
        *QK_NORM,
        ATTENTION_OUTPUT,
        FEED_FORWARD_NORM,
        Tensor("mlp.gate.weight", "ffn_gate_inp.weight", ("experts", "width"), f32=True),
        Tensor("mlp.experts.{expert}.gate_proj.weight", "ffn_gate_exps.weight", ("expert_width", "width")),
        Tensor("mlp.experts.{expert}.up_proj.weight", "ffn_up_exps.weight", ("expert_width", "width")),
        Tensor("mlp.experts.{expert}.down_proj.weight", "ffn_down_exps.weight", ("width", "expert_width")),
    ),
    sizes=_qwen3moe_sizes,
    # readers normalise the weights of the chosen experts, and have no dense layers
    expects={**_SILU, "norm_topk_prob": (True,), "decoder_sparse_step": (1,), "mlp_only_layers": ([],)},
    defaults={"norm_topk_prob": False},
)


def _qwen35_sizes(c: Config) -> Sizes:
    sizes = decoder_sizes(c)
    if not c.has("layer_types"):
        interval = c.integer("full_attention_interval", 1, 4096, 4)
        kinds = [FULL if (i + 1) % interval == 0 else _LINEAR for i in range(len(sizes.layers))]
        sizes = Sizes(
            sizes.model,
            [Layer(layer.dims, frozenset({kind})) for layer, kind in zip(sizes.layers, kinds, strict=True)],
        )
    with_layer_types(sizes, (FULL, _LINEAR))
    key_heads = c.integer("linear_num_key_heads", 1, 1 << 14, 16)
    value_heads = c.integer("linear_num_value_heads", 1, 1 << 14, 32)
    head_dim = c.integer("linear_key_head_dim", 1, 1 << 14, 128)
    if value_heads % key_heads or c.integer("linear_value_head_dim", 1, 1 << 14, 128) != head_dim:
        raise CheckpointError(
            "config.json: expected linear_num_value_heads to be a multiple of linear_num_key_heads, and"
            f" linear_value_head_dim to be linear_key_head_dim, got {value_heads} and {key_heads},"
            f" {c.get('linear_value_head_dim')} and {head_dim}"
        )
    sizes.model.update(
        linear_key_heads=key_heads,
        linear_value_heads=value_heads,
        linear_head_dim=head_dim,
        linear_width=value_heads * head_dim,
        convolution_width=(2 * key_heads + value_heads) * head_dim,
        convolution_kernel=c.integer("linear_conv_kernel_dim", 1, 1024, 4),
    )
    return change_layers(sizes, lambda i, layer: ({"gated_q_width": 2 * layer.dims["q_width"]}, set()))


QWEN35: Final = Family(
    "qwen35",
    classes=("Qwen3_5ForCausalLM", "Qwen3_5ForConditionalGeneration"),
    keys=(
        *DECODER_KEYS,
        *RMS_KEYS,
        Size("ssm.conv_kernel", "convolution_kernel"),
        Size("ssm.state_size", "linear_head_dim"),
        Size("ssm.group_count", "linear_key_heads"),
        Size("ssm.time_step_rank", "linear_value_heads"),
        Size("ssm.inner_size", "linear_width"),
        Tagged("attention.recurrent_layers", _LINEAR),
        Count("full_attention_interval", "full_attention_interval", 4),
        Constant("rope.dimension_sections", [11, 11, 10, 0]),  # replaced by mrope_section
    ),
    model=add_one(DECODER),
    layer=(
        *add_one((ATTENTION_NORM,)),
        *only(
            FULL,
            add_one(
                (
                    Tensor("self_attn.q_proj.weight", "attn_q.weight", ("gated_q_width", "width")),
                    *QKV[1:],
                    *QK_NORM,
                    ATTENTION_OUTPUT,
                )
            ),
        ),
        *only(
            _LINEAR,
            (
                Tensor(
                    "linear_attn.in_proj_qkv.weight",
                    "attn_qkv.weight",
                    ("convolution_width", "width"),
                    ("tile_qkv_rows",),
                ),
                Tensor(
                    "linear_attn.in_proj_z.weight",
                    "attn_gate.weight",
                    ("linear_width", "width"),
                    ("tile_rows",),
                ),
                Tensor(
                    "linear_attn.in_proj_b.weight",
                    "ssm_beta.weight",
                    ("linear_value_heads", "width"),
                    ("tile_heads",),
                ),
                Tensor(
                    "linear_attn.in_proj_a.weight",
                    "ssm_alpha.weight",
                    ("linear_value_heads", "width"),
                    ("tile_heads",),
                ),
                Tensor(
                    "linear_attn.conv1d.weight",
                    "ssm_conv1d.weight",
                    ("convolution_width", 1, "convolution_kernel"),
                    ("tile_qkv_rows",),
                    f32=True,
                ),
                Tensor("linear_attn.A_log", "ssm_a", ("linear_value_heads",), ("minus_exp", "tile_heads")),
                Tensor("linear_attn.dt_bias", "ssm_dt.bias", ("linear_value_heads",), ("tile_heads",)),
                Tensor("linear_attn.norm.weight", "ssm_norm.weight", ("linear_head_dim",)),
                Tensor(
                    "linear_attn.out_proj.weight",
                    "ssm_out.weight",
                    ("width", "linear_width"),
                    ("tile_columns",),
                ),
            ),
        ),
        *add_one((Tensor("post_attention_layernorm.weight", "post_attention_norm.weight", ("width",)),)),
        *FEED_FORWARD,
    ),
    sizes=_qwen35_sizes,
    expects={**_SILU, "attn_output_gate": (True,), "attention_bias": (False,)},
    defaults={"partial_rotary_factor": 0.25, "head_dim": 256},
    partial_rope=True,
)
