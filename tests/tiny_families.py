"""The tiny models of the tests, as data: for each architecture its keys and the shapes of its tensors.

Windows are 24 tokens, so that a prompt of 100 tokens crosses them, and RoPE scaling starts after 32 or 64.
Multipliers and softcaps are large enough that a model without them is far away. Each model has a layer of
each kind of its family. Names and keys are those of llama.cpp.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

VocabularyKind = Literal["gpt2", "llama"]
Rope = Literal["default", "linear", "yarn", "llama3"]
# "biases": of all matrices of a layer. "window": in all layers. "pattern": every second layer is global.
# "no_v": keys serve as values in global layers.
Variant = Literal["", "biases", "window", "no_v", "pattern"]
Dims = dict[
    str, tuple[int, ...]
]  # tensor name → (rows, row length), (length,) or (experts, rows, row length)

WINDOW: Final = 24


@dataclass(frozen=True)
class Shape:
    """The shape of a tiny model. Row lengths are multiples of 256, as the k-quants require."""

    architecture: str = "llama"
    type: str = "F32"  # of the matrices
    rope: Rope = "default"
    tied: bool = False  # always in some families
    bias: bool = False  # of Q, K and V; always in qwen2
    vocabulary: VocabularyKind = "gpt2"
    layers: int = 0  # 0: as the family
    width: int = 256
    feed_forward: int = 256
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    context: int = 256
    seed: int = 0
    variant: Variant = ""

    def __post_init__(self) -> None:
        if self.layers == 0:
            object.__setattr__(self, "layers", self.family.layers)

    @property
    def family(self) -> Family:
        return FAMILIES[self.architecture]

    @property
    def is_tied(self) -> bool:
        return self.tied or self.family.tied

    @property
    def has_bias(self) -> bool:
        return self.bias or self.family.qkv_bias or self.variant == "biases"

    @property
    def has_qk_norm(self) -> bool:
        return self.family.qk_norm


def _no_keys(_: Shape) -> dict[str, Any]:
    return {}


# ---- tensors -----------------------------------------------------------------------------------------------


def _llama_layer(s: Shape, _: int) -> Dims:
    q, kv, w, ff = s.heads * s.head_dim, s.kv_heads * s.head_dim, s.width, s.feed_forward
    layer: Dims = {
        "attn_norm.weight": (w,), "attn_q.weight": (q, w), "attn_k.weight": (kv, w), "attn_v.weight": (kv, w),
        "attn_output.weight": (w, q), "ffn_norm.weight": (w,), "ffn_gate.weight": (ff, w),
        "ffn_up.weight": (ff, w), "ffn_down.weight": (w, ff),
    }  # fmt: skip
    if s.has_bias:
        layer |= {"attn_q.bias": (q,), "attn_k.bias": (kv,), "attn_v.bias": (kv,)}
    if s.variant == "biases":
        layer |= {
            "attn_output.bias": (w,),
            "ffn_gate.bias": (ff,),
            "ffn_up.bias": (ff,),
            "ffn_down.bias": (w,),
        }
    if s.has_qk_norm:
        layer |= {"attn_q_norm.weight": (s.head_dim,), "attn_k_norm.weight": (s.head_dim,)}
    return layer


def _without(layer: Dims, *parts: str) -> Dims:
    return {name: dims for name, dims in layer.items() if name.split(".")[0] not in parts}


def _gemma_layer(s: Shape, i: int) -> Dims:
    return _llama_layer(s, i) | {"post_attention_norm.weight": (s.width,), "post_ffw_norm.weight": (s.width,)}


def _phi3_layer(s: Shape, i: int) -> Dims:
    layer = _without(_llama_layer(s, i), "attn_q", "attn_k", "attn_v", "ffn_gate")
    rows = (s.heads + 2 * s.kv_heads) * s.head_dim
    return layer | {"attn_qkv.weight": (rows, s.width), "ffn_up.weight": (2 * s.feed_forward, s.width)}


def _no_tensors(_: Shape) -> Dims:
    return {}


def _rope_factors(s: Shape) -> Dims:
    return {f"rope_factors_{kind}.weight": (_PHI3_ROPE // 2,) for kind in ("long", "short")}


# ---- families ----------------------------------------------------------------------------------------------

_PHI3_ROPE: Final = 48  # of 64 dimensions of a head


@dataclass(frozen=True)
class Family:
    """What distinguishes an architecture from llama."""

    hf_class: str  # "architectures" in config.json
    qkv_bias: bool = False
    qk_norm: bool = False
    tied: bool = False
    encoder: bool = False  # hidden states and an embedding, no logits
    layers: int = 2
    keys: Callable[[Shape], dict[str, Any]] = _no_keys  # added to the usual ones; None removes a key
    layer: Callable[[Shape, int], Dims] = _llama_layer
    tensors: Callable[[Shape], Dims] = _no_tensors  # besides the layers


def _gemma3_keys(s: Shape) -> dict[str, Any]:
    keys = {"attention.sliding_window": WINDOW, "rope.freq_base": 1e6, "rope.dimension_count": None}
    if s.variant == "pattern":
        keys |= {"attention.sliding_window_pattern": 2, "rope.freq_base_swa": 5000.0}
    return keys


FAMILIES: Final = {
    "llama": Family("LlamaForCausalLM"),
    "qwen2": Family("Qwen2ForCausalLM", qkv_bias=True),
    "qwen3": Family("Qwen3ForCausalLM", qk_norm=True),
    "gemma3": Family(
        "Gemma3ForCausalLM", qk_norm=True, tied=True, layers=7, keys=_gemma3_keys, layer=_gemma_layer
    ),
    "phi3": Family(
        "Phi3ForCausalLM",
        keys=lambda s: {
            "rope.dimension_count": _PHI3_ROPE, "rope.scaling.original_context_length": 64,
            "rope.scaling.attn_factor": (4 / 3) ** 0.5,
            "attention.sliding_window": WINDOW if s.variant == "window" else 0,
        },
        layer=_phi3_layer,
        tensors=_rope_factors,
    ),
    "smollm3": Family("SmolLM3ForCausalLM", tied=True, layers=5),
    "granite": Family(
        "GraniteForCausalLM",
        tied=True,
        keys=lambda s: {
            "embedding_scale": 6.0, "residual_scale": 0.5, "attention.scale": 0.25, "logit_scale": 0.5,
        },
    ),
    "mistral3": Family(
        "Ministral3ForCausalLM",
        keys=lambda s: {
            "rope.scaling.type": "yarn", "rope.scaling.factor": 4.0,
            "rope.scaling.original_context_length": 32, "rope.scaling.yarn_log_multiplier": 1.0,
            "rope.scaling.yarn_beta_fast": 4.0, "rope.scaling.yarn_beta_slow": 0.25,
            "attention.temperature_scale": 0.5,
        },
    ),
    "gemma2": Family(
        "Gemma2ForCausalLM",
        tied=True,
        layers=4,
        keys=lambda s: {
            "attention.sliding_window": WINDOW, "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 3.0,
        },
        layer=_gemma_layer,
    ),
}  # fmt: skip
ARCHITECTURES: Final = ("llama", "qwen2", "qwen3")  # whose tests cover every type


def keys(s: Shape) -> dict[str, Any]:
    """Returns the keys under the prefix of the architecture."""
    out: dict[str, Any] = {
        "block_count": s.layers, "context_length": s.context, "embedding_length": s.width,
        "feed_forward_length": s.feed_forward, "attention.head_count": s.heads,
        "attention.head_count_kv": s.kv_heads, "attention.key_length": s.head_dim,
        "attention.value_length": s.head_dim, "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.dimension_count": s.head_dim, "rope.freq_base": 10000.0,
    }  # fmt: skip
    if s.rope in ("linear", "yarn"):
        out |= {
            "rope.scaling.type": s.rope, "rope.scaling.factor": 4.0,
            "rope.scaling.original_context_length": 64,
        }  # fmt: skip
    out |= s.family.keys(s)
    return {key: value for key, value in out.items() if value is not None}


def tensor_dims(s: Shape, vocabulary: int) -> Dims:
    """Returns the tensors of a model with ``vocabulary`` tokens."""
    out: Dims = {"token_embd.weight": (vocabulary, s.width), "output_norm.weight": (s.width,)}
    if not s.is_tied:
        out["output.weight"] = (vocabulary, s.width)
    out |= s.family.tensors(s)
    for i in range(s.layers):
        out |= {f"blk.{i}.{name}": dims for name, dims in s.family.layer(s, i).items()}
    return out
