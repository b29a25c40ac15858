"""Phi-3 and Phi-4-mini: Q, K and V in one matrix, gate and up in another, LongRoPE."""

from __future__ import annotations

from typing import Final

from binhdan.quantize.families.family import Count, Family, Tensor
from binhdan.quantize.families.sizes import (
    ATTENTION_NORM,
    ATTENTION_OUTPUT,
    DECODER,
    DECODER_KEYS,
    FEED_FORWARD,
    FEED_FORWARD_NORM,
    RMS_KEYS,
    decoder_sizes,
)

PHI3: Final = Family(
    "phi3",
    classes=("Phi3ForCausalLM",),
    keys=(
        *DECODER_KEYS,
        *RMS_KEYS,
        Count("attention.sliding_window", "sliding_window", 0),
        Count("rope.scaling.original_context_length", "original_max_position_embeddings"),
    ),
    model=DECODER,
    layer=(
        ATTENTION_NORM,
        Tensor("self_attn.qkv_proj.weight", "attn_qkv.weight", ("qkv_width", "width")),
        ATTENTION_OUTPUT,
        FEED_FORWARD_NORM,
        Tensor("mlp.gate_up_proj.weight", "ffn_up.weight", ("gate_up_width", "width")),
        FEED_FORWARD[2],
    ),
    sizes=decoder_sizes,
    expects={"hidden_act": ("silu",), "attention_bias": (False,)},
    rope_types=("default", "longrope"),
    partial_rope=True,
)
