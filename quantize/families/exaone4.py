"""EXAONE 4: norms after attention and feed-forward, none before; sliding windows in the 32B model."""

from __future__ import annotations

from typing import Final

from binhdan.quantize.config import Config
from binhdan.quantize.families.family import Count, Family, Sizes, Tagged, Tensor
from binhdan.quantize.families.sizes import (
    ATTENTION_OUTPUT,
    DECODER,
    DECODER_KEYS,
    FEED_FORWARD,
    QK_NORM,
    QKV,
    RMS_KEYS,
    SLIDING,
    decoder_sizes,
)


def _check_layer_types(c: Config, sizes: Sizes) -> None:
    if c.has("sliding_window") and not c.has("layer_types"):
        raise c.error("layer_types", "a list, because sliding_window is set", "none")


EXAONE4: Final = Family(
    "exaone4",
    classes=("Exaone4ForCausalLM",),
    keys=(
        *DECODER_KEYS,
        *RMS_KEYS,
        Count("attention.sliding_window", "sliding_window"),
        Tagged("attention.sliding_window_pattern", SLIDING, unless=lambda layers: [False] * layers),
    ),
    model=DECODER,
    layer=(
        *QKV,
        *QK_NORM,
        ATTENTION_OUTPUT,
        Tensor("post_attention_layernorm.weight", "post_attention_norm.weight", ("width",)),
        *FEED_FORWARD,
        Tensor("post_feedforward_layernorm.weight", "post_ffw_norm.weight", ("width",)),
    ),
    sizes=decoder_sizes,
    expects={"hidden_act": ("silu",)},
    check=_check_layer_types,
)
