"""The tiny models of the tests, as data: for each architecture its keys and the shapes of its tensors.

Windows are 24 tokens, so that a prompt of 100 tokens crosses them, and RoPE scaling starts after 32 or 64.
Multipliers and softcaps are large enough that a model without them is far away. Each model has a layer of
each kind of its family. Names and keys are those of llama.cpp.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
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


def _gemma4_layer(s: Shape, i: int) -> Dims:
    is_global, shared = not _GEMMA4_LOCAL[i], i >= s.layers - _GEMMA4_SHARED
    wide = replace(
        s, head_dim=s.head_dim * (2 if is_global else 1), feed_forward=s.feed_forward * (2 if shared else 1)
    )
    layer = _gemma_layer(wide, i)
    if shared:
        layer = _without(layer, "attn_k", "attn_v", "attn_k_norm")
    if s.variant == "no_v" and is_global:
        layer = _without(layer, "attn_v")
    return layer | {
        "inp_gate.weight": (_PER_LAYER, s.width), "proj.weight": (s.width, _PER_LAYER),
        "post_norm.weight": (s.width,), "layer_output_scale.weight": (1,),
    }  # fmt: skip


def _gemma4_tensors(s: Shape) -> Dims:
    rows = s.layers * _PER_LAYER
    return {
        "per_layer_token_embd.weight": (-1, rows), "per_layer_model_proj.weight": (rows, s.width),
        "per_layer_proj_norm.weight": (_PER_LAYER,), "rope_freqs.weight": (s.head_dim,),
    }  # fmt: skip


def _lfm2_layer(s: Shape, i: int) -> Dims:
    layer, w = _llama_layer(s, i), s.width
    if _LFM2_ATTENTION[i]:
        return layer
    layer = _without(layer, "attn_q", "attn_k", "attn_v", "attn_output", "attn_q_norm", "attn_k_norm")
    return layer | {
        "shortconv.conv.weight": (w, 3), "shortconv.in_proj.weight": (3 * w, w),
        "shortconv.out_proj.weight": (w, w),
    }  # fmt: skip


def _qwen35_layer(s: Shape, i: int) -> Dims:
    layer, w = _llama_layer(s, i), s.width
    layer["post_attention_norm.weight"] = layer.pop("ffn_norm.weight")
    if (i + 1) % 4 == 0:
        return layer | {"attn_q.weight": (2 * s.heads * s.head_dim, w)}
    layer = _without(layer, "attn_q", "attn_k", "attn_v", "attn_output", "attn_q_norm", "attn_k_norm")
    values, channels = s.heads * s.head_dim, (2 * s.kv_heads + s.heads) * s.head_dim
    return layer | {
        "attn_qkv.weight": (channels, w), "attn_gate.weight": (values, w), "ssm_conv1d.weight": (channels, 4),
        "ssm_alpha.weight": (s.heads, w), "ssm_beta.weight": (s.heads, w), "ssm_a": (s.heads,),
        "ssm_dt.bias": (s.heads,), "ssm_norm.weight": (s.head_dim,), "ssm_out.weight": (w, values),
    }  # fmt: skip


def _qwen35_keys(s: Shape) -> dict[str, Any]:
    keys = {
        "attention.layer_norm_rms_epsilon": 1e-6, "rope.dimension_count": 16,
        "rope.dimension_sections": [3, 3, 2, 0], "ssm.conv_kernel": 4, "ssm.state_size": s.head_dim,
        "ssm.group_count": s.kv_heads, "ssm.time_step_rank": s.heads, "ssm.inner_size": s.heads * s.head_dim,
    }  # fmt: skip
    if s.variant == "pattern":
        return keys | {"attention.recurrent_layers": [(i + 1) % 4 != 0 for i in range(s.layers)]}
    return keys | {"full_attention_interval": 4}


def _bert_layer(s: Shape, i: int) -> Dims:
    biased = replace(s, variant="biases", kv_heads=s.heads)
    layer = _without(_llama_layer(biased, i), "attn_norm", "ffn_norm", "ffn_gate")
    norms = ("attn_output_norm", "layer_output_norm")
    return layer | {f"{norm}.{kind}": (s.width,) for norm in norms for kind in ("weight", "bias")}


def _bert_tensors(s: Shape) -> Dims:
    return {
        "position_embd.weight": (s.context, s.width), "token_types.weight": (2, s.width),
        "token_embd_norm.weight": (s.width,), "token_embd_norm.bias": (s.width,),
    }  # fmt: skip


def _dense_tensors(s: Shape) -> Dims:
    return {"dense_2.weight": (2 * s.width, s.width), "dense_3.weight": (s.width, 2 * s.width)}


def _experts(layer: Dims, s: Shape) -> Dims:
    up = (_EXPERTS, s.feed_forward, s.width)
    return _without(layer, "ffn_gate", "ffn_up", "ffn_down") | {
        "ffn_gate_inp.weight": (_EXPERTS, s.width), "ffn_gate_exps.weight": up, "ffn_up_exps.weight": up,
        "ffn_down_exps.weight": (_EXPERTS, s.width, s.feed_forward),
    }  # fmt: skip


def _lfm2moe_layer(s: Shape, i: int) -> Dims:
    layer = _lfm2_layer(s, i)
    return layer if i == 0 else _experts(layer, s) | {"exp_probs_b.bias": (_EXPERTS,)}


def _expert_keys(s: Shape) -> dict[str, Any]:
    return {
        "expert_count": _EXPERTS, "expert_used_count": 2, "expert_feed_forward_length": s.feed_forward,
    }  # fmt: skip


def _lfm2_keys(s: Shape) -> dict[str, Any]:
    return {
        "attention.head_count_kv": [s.kv_heads if attention else 0 for attention in _LFM2_ATTENTION],
        "shortconv.l_cache": 3,
    }  # fmt: skip


def _no_tensors(_: Shape) -> Dims:
    return {}


def _rope_factors(s: Shape) -> Dims:
    return {f"rope_factors_{kind}.weight": (_PHI3_ROPE // 2,) for kind in ("long", "short")}


# ---- families ----------------------------------------------------------------------------------------------

_PHI3_ROPE: Final = 48  # of 64 dimensions of a head
_GEMMA4_LOCAL: Final = (True, True, False, True, True, False)
_GEMMA4_SHARED: Final = 3  # the last layers, which read the keys and values of layers 1 and 2
_PER_LAYER: Final = 256
_LFM2_ATTENTION: Final = (False, True, False)
_EXPERTS: Final = 4


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
    final_norm: str = "output_norm"
    q_norm_scale: float = 1.0
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
    "gemma": Family("GemmaForCausalLM", tied=True),
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
    "smollm3": Family("SmolLM3ForCausalLM", tied=True, layers=4),
    "granite": Family(
        "GraniteForCausalLM",
        tied=True,
        keys=lambda s: {
            "embedding_scale": 6.0, "residual_scale": 0.5, "attention.scale": 0.25, "logit_scale": 1.5,
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
    "gemma4": Family(
        "Gemma4ForCausalLM",
        qk_norm=True,
        tied=True,
        layers=6,
        keys=lambda s: {
            "attention.key_length": 2 * s.head_dim, "attention.value_length": 2 * s.head_dim,
            "attention.key_length_swa": s.head_dim, "attention.value_length_swa": s.head_dim,
            "rope.dimension_count": 2 * s.head_dim, "rope.dimension_count_swa": s.head_dim,
            "rope.freq_base": 1e6, "rope.freq_base_swa": 10000.0,
            "attention.sliding_window": WINDOW, "attention.sliding_window_pattern": list(_GEMMA4_LOCAL),
            "attention.shared_kv_layers": _GEMMA4_SHARED, "final_logit_softcapping": 3.0,
            "embedding_length_per_layer_input": _PER_LAYER,
            "feed_forward_length": [
                s.feed_forward * (2 if i >= s.layers - _GEMMA4_SHARED else 1) for i in range(s.layers)
            ],
        },
        q_norm_scale=0.25,  # the scores are not scaled: larger ones would show the rounding of KV to F16
        layer=_gemma4_layer,
        tensors=_gemma4_tensors,
    ),
    "lfm2": Family(
        "Lfm2ForCausalLM",
        qk_norm=True,
        tied=True,
        layers=3,
        final_norm="token_embd_norm",
        keys=_lfm2_keys,
        layer=_lfm2_layer,
    ),
    "qwen35": Family(
        "Qwen3_5ForCausalLM", qk_norm=True, tied=True, layers=4, keys=_qwen35_keys, layer=_qwen35_layer
    ),
    "bert": Family(
        "BertModel",
        tied=True,
        encoder=True,
        final_norm="",
        keys=lambda s: {
            "attention.head_count_kv": None, "attention.layer_norm_rms_epsilon": None,
            "attention.layer_norm_epsilon": 1e-5,
            "attention.causal": False, "pooling_type": 1, "rope.dimension_count": None,
            "rope.freq_base": None,
        },
        layer=_bert_layer,
        tensors=_bert_tensors,
    ),
    "gemma-embedding": Family(
        "Gemma3TextModel",
        qk_norm=True,
        tied=True,
        encoder=True,
        layers=7,
        keys=lambda s: _gemma3_keys(s) | {
            "pooling_type": 1, "dense_2_feat_in": s.width, "dense_2_feat_out": 2 * s.width,
            "dense_3_feat_in": 2 * s.width, "dense_3_feat_out": s.width,
        },
        layer=_gemma_layer,
        tensors=_dense_tensors,
    ),
    "qwen3moe": Family(
        "Qwen3MoeForCausalLM",
        qk_norm=True,
        keys=_expert_keys,
        layer=lambda s, i: _experts(_llama_layer(s, i), s),
    ),
    "lfm2moe": Family(
        "Lfm2MoeForCausalLM",
        qk_norm=True,
        tied=True,
        layers=3,
        final_norm="token_embd_norm",
        keys=lambda s: _lfm2_keys(s) | _expert_keys(s) | {
            "leading_dense_block_count": 1, "expert_gating_func": 2,
        },
        layer=_lfm2moe_layer,
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
    out: Dims = {"token_embd.weight": (vocabulary, s.width)}
    if s.family.final_norm:
        out[f"{s.family.final_norm}.weight"] = (s.width,)
    if not s.is_tied:
        out["output.weight"] = (vocabulary, s.width)
    tensors = s.family.tensors(s).items()
    out |= {name: tuple(vocabulary if n < 0 else n for n in dims) for name, dims in tensors}
    for i in range(s.layers):
        out |= {f"blk.{i}.{name}": dims for name, dims in s.family.layer(s, i).items()}
    return out
