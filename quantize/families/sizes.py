"""The sizes of decoders, and the rows that most decoders share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from binhdan.quantize.checkpoint import CheckpointError
from binhdan.quantize.config import Config
from binhdan.quantize.families.family import Layer, Number, Size, Sizes, Tensor

FULL: Final = "full_attention"
SLIDING: Final = "sliding_attention"


def head_sizes(heads: int, kv_heads: int, head_dim: int) -> dict[str, int]:
    if heads % max(1, kv_heads) or head_dim % 2:
        raise CheckpointError(
            "config.json: expected num_attention_heads to be a multiple of num_key_value_heads and head_dim"
            f" to be even, got {heads}, {kv_heads} and {head_dim}"
        )
    q_width, kv_width = heads * head_dim, kv_heads * head_dim
    return {
        "heads": heads,
        "kv_heads": kv_heads,
        "head_dim": head_dim,
        "q_width": q_width,
        "kv_width": kv_width,
        "qkv_width": q_width + 2 * kv_width,
    }


def decoder_sizes(c: Config) -> Sizes:
    """Reads the sizes that all decoders have. All layers are equal; their tags are those of layer_types."""
    width = c.integer("hidden_size", 1, 1 << 20)
    heads = c.integer("num_attention_heads", 1, 1 << 14)
    kv_heads = c.integer("num_key_value_heads", 1, heads, heads)
    head_dim = c.integer("head_dim", 2, 1 << 14, width // heads)
    layers = c.integer("num_hidden_layers", 1, 4096)
    feed_forward = c.integer("intermediate_size", 1, 1 << 22)
    dims = {
        **head_sizes(heads, kv_heads, head_dim),
        "feed_forward": feed_forward,
        "gate_up_width": 2 * feed_forward,
    }
    model = {"vocabulary": c.integer("vocab_size", 1, 1 << 24), "width": width, "layers": layers}
    types = c.strings("layer_types", layers) or [FULL] * layers
    return Sizes(model, [Layer(dims, frozenset({kind})) for kind in types])


def with_layer_types(sizes: Sizes, known: tuple[str, ...]) -> Sizes:
    """Raises CheckpointError if a layer type is not in ``known``. Returns ``sizes``."""
    for i, layer in enumerate(sizes.layers):
        if not layer.tags & set(known):
            kind, expected = ", ".join(sorted(layer.tags)), ", ".join(known)
            raise CheckpointError(
                f"config.json: layer_types: layer {i}: expected one of {expected}, got {kind[:80]!r}"
            )
    return sizes


def change_layers(sizes: Sizes, change: Callable[[int, Layer], tuple[Mapping[str, int], set[str]]]) -> Sizes:
    """Returns ``sizes`` with each layer's dimensions and tags extended by those that ``change`` returns."""
    layers = []
    for i, layer in enumerate(sizes.layers):
        dims, tags = change(i, layer)
        layers.append(Layer({**layer.dims, **dims}, layer.tags | tags))
    return replace(sizes, layers=layers)


def every(period: int) -> Callable[[int], list[bool]]:
    """Returns the flags of sliding attention if every ``period``-th layer has full attention."""
    return lambda layers: [(i + 1) % period != 0 for i in range(layers)]


# ---- rows --------------------------------------------------------------------------------------------------

DECODER_KEYS: Final = (
    Size("block_count", "layers"),
    Size("context_length", "context"),
    Size("embedding_length", "width"),
    Size("feed_forward_length", "feed_forward"),
    Size("attention.head_count", "heads"),
    Size("attention.head_count_kv", "kv_heads"),
    Size("attention.key_length", "head_dim"),
    Size("attention.value_length", "head_dim"),
)
VOCABULARY_SIZE: Final = Size("vocab_size", "vocabulary")
RMS_KEYS: Final = (Number("attention.layer_norm_rms_epsilon", "rms_norm_eps", 1e-6), VOCABULARY_SIZE)

EMBEDDING: Final = Tensor("embed_tokens.weight", "token_embd.weight", ("vocabulary", "width"))
OUTPUT_NORM: Final = Tensor("norm.weight", "output_norm.weight", ("width",))
OUTPUT: Final = Tensor("lm_head.weight", "output.weight", ("vocabulary", "width"), optional=True)
DECODER: Final = (EMBEDDING, OUTPUT_NORM, OUTPUT)

QKV: Final = (
    Tensor("self_attn.q_proj.weight", "attn_q.weight", ("q_width", "width"), ("rope_q",)),
    Tensor("self_attn.k_proj.weight", "attn_k.weight", ("kv_width", "width"), ("rope_k",)),
    Tensor("self_attn.v_proj.weight", "attn_v.weight", ("kv_width", "width")),
)
QKV_BIAS: Final = (
    Tensor("self_attn.q_proj.bias", "attn_q.bias", ("q_width",), ("rope_q",)),
    Tensor("self_attn.k_proj.bias", "attn_k.bias", ("kv_width",), ("rope_k",)),
    Tensor("self_attn.v_proj.bias", "attn_v.bias", ("kv_width",)),
)
QK_NORM: Final = (
    Tensor("self_attn.q_norm.weight", "attn_q_norm.weight", ("head_dim",)),
    Tensor("self_attn.k_norm.weight", "attn_k_norm.weight", ("head_dim",)),
)
ATTENTION_NORM: Final = Tensor("input_layernorm.weight", "attn_norm.weight", ("width",))
ATTENTION_OUTPUT: Final = Tensor("self_attn.o_proj.weight", "attn_output.weight", ("width", "q_width"))
FEED_FORWARD_NORM: Final = Tensor("post_attention_layernorm.weight", "ffn_norm.weight", ("width",))
FEED_FORWARD: Final = (
    Tensor("mlp.gate_proj.weight", "ffn_gate.weight", ("feed_forward", "width")),
    Tensor("mlp.up_proj.weight", "ffn_up.weight", ("feed_forward", "width")),
    Tensor("mlp.down_proj.weight", "ffn_down.weight", ("width", "feed_forward")),
)


def optional(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(replace(tensor, optional=True) for tensor in tensors)


def only(tag: str, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Returns the rows for the layers with ``tag``."""
    return tuple(replace(tensor, only=tag) for tensor in tensors)


def add_one(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Returns the rows with 1 added to each norm weight: GGUF's RMSNorm multiplies by the weight."""
    return tuple(
        replace(tensor, transforms=("add_one",)) if tensor.target.endswith("norm.weight") else tensor
        for tensor in tensors
    )
