"""Llama and its close relatives: RMSNorm, SwiGLU, interleaved RoPE."""

from __future__ import annotations

from typing import Final

from binhdan.quantize.checkpoint import CheckpointError
from binhdan.quantize.config import Config
from binhdan.quantize.families.family import Family, Number, Sizes, Tensor
from binhdan.quantize.families.sizes import (
    ATTENTION_NORM,
    ATTENTION_OUTPUT,
    DECODER,
    DECODER_KEYS,
    FEED_FORWARD,
    FEED_FORWARD_NORM,
    QKV,
    QKV_BIAS,
    RMS_KEYS,
    decoder_sizes,
    optional,
)

_LAYER: Final = (
    ATTENTION_NORM,
    *QKV,
    *optional(QKV_BIAS),
    ATTENTION_OUTPUT,
    FEED_FORWARD_NORM,
    *FEED_FORWARD,
)
_OTHER_BIASES: Final = optional(
    (
        Tensor("self_attn.o_proj.bias", "attn_output.bias", ("width",)),
        Tensor("mlp.gate_proj.bias", "ffn_gate.bias", ("feed_forward",)),
        Tensor("mlp.up_proj.bias", "ffn_up.bias", ("feed_forward",)),
        Tensor("mlp.down_proj.bias", "ffn_down.bias", ("width",)),
    )
)
_SILU: Final = {"hidden_act": ("silu",)}

LLAMA: Final = Family(
    "llama",
    classes=("LlamaForCausalLM", "MistralForCausalLM"),
    keys=(*DECODER_KEYS, *RMS_KEYS),
    model=DECODER,
    layer=(*_LAYER, *_OTHER_BIASES),
    sizes=decoder_sizes,
    expects=_SILU,
    interleaved_rope=True,
)

MISTRAL3: Final = Family(
    "mistral3",
    classes=("Ministral3ForCausalLM", "Mistral3ForConditionalGeneration"),
    keys=(*DECODER_KEYS, *RMS_KEYS),
    model=DECODER,
    layer=_LAYER,
    sizes=decoder_sizes,
    expects=_SILU,
    interleaved_rope=True,
)

GRANITE: Final = Family(
    "granite",
    classes=("GraniteForCausalLM",),
    keys=(
        *DECODER_KEYS,
        *RMS_KEYS,
        Number("attention.scale", "attention_multiplier", 1.0),
        Number("embedding_scale", "embedding_multiplier", 1.0),
        Number("residual_scale", "residual_multiplier", 1.0),
        Number("logit_scale", "logits_scaling", 1.0),  # logits are divided by it
    ),
    model=DECODER,
    layer=(*_LAYER, *_OTHER_BIASES),
    sizes=decoder_sizes,
    expects=_SILU,
    interleaved_rope=True,
)


def _check_smollm3(c: Config, sizes: Sizes) -> None:
    """GGUF has no key for the layers without RoPE: readers assume every fourth."""
    expected = [int((i + 1) % 4 != 0) for i in range(len(sizes.layers))]
    flags = c.get("no_rope_layers")
    if flags is not None and flags != expected:
        raise CheckpointError(
            "config.json: no_rope_layers: expected 0 for every fourth layer and 1 for the others,"
            f" got {str(flags)[:80]}"
        )
    c.expect("no_rope_layer_interval", 4)


SMOLLM3: Final = Family(
    "smollm3",
    classes=("SmolLM3ForCausalLM",),
    keys=(*DECODER_KEYS, *RMS_KEYS),
    model=DECODER,
    layer=_LAYER,
    sizes=decoder_sizes,
    expects=_SILU,
    defaults={"rope_theta": 2_000_000.0},
    check=_check_smollm3,
    interleaved_rope=True,
)
