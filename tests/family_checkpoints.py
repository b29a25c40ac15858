"""The Hugging Face checkpoint that holds the weights of a tiny GGUF file: the inverse of a conversion.

quantize/ converts checkpoints to GGUF; this file maps the other way and shares no code with it, so that each
tests the other. transformers computes the goldens on these checkpoints. Names and layouts: the modeling files
of transformers 5, and conversion/ of llama.cpp.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from tiny_families import Shape, keys

Floats = npt.NDArray[np.float32]
Tensors = dict[str, Floats]

INTERLEAVED: Final = ("llama", "granite", "smollm3", "mistral3")  # q and k rows: pairs (0, 1), (2, 3), …
# transformers multiplies by 1 + w
SHIFTED_NORMS: Final = ("gemma", "gemma2", "gemma3", "gemma-embedding", "qwen35")

_USUAL: Final = {
    "token_embd": "embed_tokens", "output_norm": "norm", "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm", "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip
_GEMMA: Final = _USUAL | {
    "post_attention_norm": "post_attention_layernorm", "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}  # fmt: skip
_LFM2: Final = _USUAL | {
    "token_embd_norm": "embedding_norm", "attn_norm": "operator_norm", "ffn_norm": "ffn_norm",
    "attn_q_norm": "self_attn.q_layernorm", "attn_k_norm": "self_attn.k_layernorm",
    "attn_output": "self_attn.out_proj", "ffn_gate": "feed_forward.w1", "ffn_up": "feed_forward.w3",
    "ffn_down": "feed_forward.w2", "shortconv.conv": "conv.conv", "shortconv.in_proj": "conv.in_proj",
    "shortconv.out_proj": "conv.out_proj",
}  # fmt: skip
NAMES: Final = {
    "gemma2": _GEMMA,
    "gemma3": _GEMMA,
    "gemma-embedding": _GEMMA,
    "gemma4": _GEMMA | {
        "inp_gate": "per_layer_input_gate", "proj": "per_layer_projection",
        "post_norm": "post_per_layer_input_norm", "layer_output_scale": "layer_scalar",
        "per_layer_token_embd": "embed_tokens_per_layer",
        "per_layer_model_proj": "per_layer_model_projection",
        "per_layer_proj_norm": "per_layer_projection_norm",
    },
    "phi3": _USUAL | {"attn_qkv": "self_attn.qkv_proj", "ffn_up": "mlp.gate_up_proj"},
    "lfm2": _LFM2,
    "lfm2moe": _LFM2 | {
        "ffn_gate_inp": "feed_forward.gate", "exp_probs_b": "feed_forward.expert_bias",
        "ffn_gate_exps": "feed_forward.experts.*.w1", "ffn_up_exps": "feed_forward.experts.*.w3",
        "ffn_down_exps": "feed_forward.experts.*.w2",
    },
    "qwen3moe": _USUAL | {
        "ffn_gate_inp": "mlp.gate", "ffn_gate_exps": "mlp.experts.*.gate_proj",
        "ffn_up_exps": "mlp.experts.*.up_proj", "ffn_down_exps": "mlp.experts.*.down_proj",
    },
    "qwen35": _USUAL | {
        "post_attention_norm": "post_attention_layernorm", "attn_qkv": "linear_attn.in_proj_qkv",
        "attn_gate": "linear_attn.in_proj_z", "ssm_conv1d": "linear_attn.conv1d",
        "ssm_alpha": "linear_attn.in_proj_a", "ssm_beta": "linear_attn.in_proj_b",
        "ssm_a": "linear_attn.A_log", "ssm_dt": "linear_attn.dt_bias", "ssm_norm": "linear_attn.norm",
        "ssm_out": "linear_attn.out_proj",
    },
    "bert": {
        "token_embd": "embeddings.word_embeddings", "position_embd": "embeddings.position_embeddings",
        "token_types": "embeddings.token_type_embeddings", "token_embd_norm": "embeddings.LayerNorm",
        "attn_q": "attention.self.query", "attn_k": "attention.self.key", "attn_v": "attention.self.value",
        "attn_output": "attention.output.dense", "attn_output_norm": "attention.output.LayerNorm",
        "ffn_up": "intermediate.dense", "ffn_down": "output.dense", "layer_output_norm": "output.LayerNorm",
    },
}  # fmt: skip
_BARE: Final = ("layer_scalar", "linear_attn.A_log", "linear_attn.dt_bias", "feed_forward.expert_bias")
_NOT_IN_CHECKPOINT: Final = ("rope_freqs", "rope_factors_long", "rope_factors_short", "dense_2", "dense_3")


def hf_tensors(shape: Shape, tensors: Tensors) -> Tensors:
    """Returns Hugging Face names → values; ``tensors`` are those of the GGUF file, in float32."""
    names = NAMES.get(shape.architecture, _USUAL)
    out: Tensors = {}
    for name, values in tensors.items():
        layer, part = _split(name)
        if part.split(".")[0] in _NOT_IN_CHECKPOINT:
            continue
        module, _, kind = part.rpartition(".") if "." in part else (part, "", "")
        hf_name = "lm_head" if module == "output" else names[module]
        if hf_name not in _BARE:
            hf_name = f"{hf_name}.{kind}"
        values = _values(shape, module, values)
        for part_name, part_values in _experts(hf_name, values):
            out[_prefix(shape, layer, part_name) + part_name] = np.ascontiguousarray(part_values)
    return out


def _split(name: str) -> tuple[int | None, str]:
    if not name.startswith("blk."):
        return None, name
    _, layer, part = name.split(".", 2)
    return int(layer), part


def _experts(name: str, values: Floats) -> list[tuple[str, Floats]]:
    """Checkpoints have a matrix for each expert."""
    if "*" not in name:
        return [(name, values)]
    return [(name.replace("*", str(i)), matrix) for i, matrix in enumerate(values)]


def _prefix(shape: Shape, layer: int | None, name: str) -> str:
    model = "" if shape.family.encoder or name.startswith("lm_head") else "model."
    blocks = "encoder.layer" if shape.architecture == "bert" else "layers"
    return model if layer is None else f"{model}{blocks}.{layer}."


def _values(s: Shape, module: str, values: Floats) -> Floats:
    if s.architecture in INTERLEAVED and module in ("attn_q", "attn_k"):
        heads = s.heads if module == "attn_q" else s.kv_heads
        halves = values.reshape(heads, s.head_dim // 2, 2, -1).swapaxes(1, 2)
        return halves.reshape(values.shape)
    if s.architecture in SHIFTED_NORMS and module.endswith("norm") and module != "ssm_norm":
        return values - 1
    if module in ("ssm_conv1d", "shortconv.conv"):
        values = values[:, None, :]
    if s.architecture == "qwen35":
        return _grouped_value_heads(s, module, np.log(-values) if module == "ssm_a" else values)
    return values


def _grouped_value_heads(s: Shape, module: str, values: Floats) -> Floats:
    """GGUF: value head i uses key head i modulo their number. transformers: value heads of a key head follow
    each other."""

    def group(part: Floats, size: int) -> Floats:  # along axis 0
        heads = part.reshape(s.heads // s.kv_heads, s.kv_heads, size, *part.shape[1:])
        return heads.swapaxes(0, 1).reshape(part.shape)

    qk = 2 * s.kv_heads * s.head_dim
    if module in ("ssm_alpha", "ssm_beta", "ssm_a", "ssm_dt"):
        return group(values, 1)
    if module == "attn_gate":
        return group(values, s.head_dim)
    if module in ("attn_qkv", "ssm_conv1d"):
        return np.concatenate([values[:qk], group(values[qk:], s.head_dim)])
    if module == "ssm_out":
        return group(values.T, s.head_dim).T
    return values


def dense_tensors(tensors: Tensors) -> dict[str, Tensors]:
    """Returns the dense layers that follow the pooling of gemma-embedding: folder → tensors."""
    names = {"2_Dense": "dense_2.weight", "3_Dense": "dense_3.weight"}
    return {folder: {"linear.weight": tensors[name]} for folder, name in names.items() if name in tensors}


def sentence_transformers_files(shape: Shape, tensors: Tensors) -> dict[str, Any]:
    """Returns the JSON files that sentence-transformers adds to the checkpoint of an encoder."""
    modules = ["", "1_Pooling", *dense_tensors(tensors)]
    kinds = ["Transformer", "Pooling", "Dense", "Dense"]
    files: dict[str, Any] = {
        "modules.json": [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (path, kind) in enumerate(zip(modules, kinds, strict=False))
        ],
        "1_Pooling/config.json": {
            "word_embedding_dimension": shape.width, "pooling_mode_cls_token": False,
            "pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": False,
        },
    }  # fmt: skip
    for folder, dense in dense_tensors(tensors).items():
        rows, columns = dense["linear.weight"].shape
        files[f"{folder}/config.json"] = {
            "in_features": columns, "out_features": rows, "bias": False,
            "activation_function": "torch.nn.modules.linear.Identity",
        }  # fmt: skip
    return files


# ---- config.json -------------------------------------------------------------------------------------------


def hf_config(shape: Shape, vocabulary: int, factors: Tensors) -> dict[str, Any]:
    """Returns config.json. ``factors``: the tensors of RoPE factors."""
    s, k = shape, keys(shape)
    config: dict[str, Any] = {
        "architectures": [s.family.hf_class], "model_type": MODEL_TYPES.get(s.architecture, s.architecture),
        "hidden_size": s.width, "intermediate_size": s.feed_forward, "num_hidden_layers": s.layers,
        "num_attention_heads": s.heads, "num_key_value_heads": s.kv_heads, "head_dim": s.head_dim,
        "max_position_embeddings": s.context, "tie_word_embeddings": s.is_tied, "vocab_size": vocabulary,
        "bos_token_id": None, "eos_token_id": 2, "pad_token_id": 0,
    }  # fmt: skip
    if s.architecture == "bert":
        return config | {"hidden_act": "gelu", "layer_norm_eps": 1e-5, "type_vocab_size": 2}
    config |= {"rms_norm_eps": k["attention.layer_norm_rms_epsilon"]}
    config["rope_parameters"] = {"rope_type": "default", "rope_theta": k["rope.freq_base"]}
    return config | CONFIGS.get(s.architecture, _llama_config)(s, k, factors)


MODEL_TYPES: Final = {
    "gemma3": "gemma3_text", "gemma-embedding": "gemma3_text", "gemma4": "gemma4_text",
    "mistral3": "ministral3", "qwen35": "qwen3_5_text", "qwen3moe": "qwen3_moe", "lfm2moe": "lfm2_moe",
}  # fmt: skip


def _llama_config(s: Shape, k: dict[str, Any], _: Tensors) -> dict[str, Any]:
    return {"attention_bias": s.variant == "biases", "mlp_bias": s.variant == "biases"}


def _layer_types(s: Shape, k: dict[str, Any], period: int) -> list[str]:
    pattern = k.get("attention.sliding_window_pattern", period)
    local = pattern if isinstance(pattern, list) else [(i + 1) % pattern != 0 for i in range(s.layers)]
    return ["sliding_attention" if is_local else "full_attention" for is_local in local]


def _gemma_config(s: Shape, k: dict[str, Any], _: Tensors) -> dict[str, Any]:
    return {"hidden_act": "gelu_pytorch_tanh"}


def _gemma2_config(s: Shape, k: dict[str, Any], _: Tensors) -> dict[str, Any]:
    return {
        "sliding_window": k["attention.sliding_window"], "query_pre_attn_scalar": s.head_dim,
        "attn_logit_softcapping": k["attn_logit_softcapping"], "layer_types": _layer_types(s, k, 2),
        "final_logit_softcapping": k["final_logit_softcapping"], "hidden_activation": "gelu_pytorch_tanh",
    }  # fmt: skip


def _gemma3_config(s: Shape, k: dict[str, Any], _: Tensors) -> dict[str, Any]:
    full: dict[str, Any] = {"rope_type": "default", "rope_theta": k["rope.freq_base"]}
    if s.rope == "linear":
        full |= {"rope_type": "linear", "factor": 4.0}
    local = {"rope_type": "default", "rope_theta": k.get("rope.freq_base_swa", 10000.0)}
    return {
        "sliding_window": k["attention.sliding_window"], "query_pre_attn_scalar": s.head_dim,
        "layer_types": _layer_types(s, k, 6), "hidden_activation": "gelu_pytorch_tanh",
        "rope_parameters": {"full_attention": full, "sliding_attention": local},
        "use_bidirectional_attention": s.family.encoder,
    }  # fmt: skip


def _gemma4_config(s: Shape, k: dict[str, Any], _: Tensors) -> dict[str, Any]:
    return {
        "sliding_window": k["attention.sliding_window"], "layer_types": _layer_types(s, k, 0),
        "global_head_dim": k["attention.key_length"], "num_kv_shared_layers": k["attention.shared_kv_layers"],
        "hidden_size_per_layer_input": k["embedding_length_per_layer_input"], "use_double_wide_mlp": True,
        "vocab_size_per_layer_input": 320, "final_logit_softcapping": k["final_logit_softcapping"],
        "attention_k_eq_v": s.variant == "no_v",
        "num_global_key_value_heads": s.kv_heads if s.variant == "no_v" else None,
        "rope_parameters": {
            "full_attention": {
                "rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": k["rope.freq_base"],
            },
            "sliding_attention": {"rope_type": "default", "rope_theta": k["rope.freq_base_swa"]},
        },
    }  # fmt: skip


def _phi3_config(s: Shape, k: dict[str, Any], factors: Tensors) -> dict[str, Any]:
    return {
        "sliding_window": k["attention.sliding_window"] or None,
        "original_max_position_embeddings": k["rope.scaling.original_context_length"],
        "rope_parameters": {
            "rope_type": "longrope", "rope_theta": k["rope.freq_base"],
            "partial_rotary_factor": k["rope.dimension_count"] / s.head_dim,
            "original_max_position_embeddings": k["rope.scaling.original_context_length"],
            "long_factor": factors["rope_factors_long.weight"].tolist(),
            "short_factor": factors["rope_factors_short.weight"].tolist(),
        },
    }  # fmt: skip


def _granite_config(s: Shape, k: dict[str, Any], _: Tensors) -> dict[str, Any]:
    return {
        "embedding_multiplier": k["embedding_scale"], "residual_multiplier": k["residual_scale"],
        "attention_multiplier": k["attention.scale"], "logits_scaling": k["logit_scale"],
    }  # fmt: skip


def _mistral3_config(s: Shape, k: dict[str, Any], _: Tensors) -> dict[str, Any]:
    return {
        "rope_parameters": {
            "rope_type": "yarn", "rope_theta": k["rope.freq_base"], "factor": k["rope.scaling.factor"],
            "original_max_position_embeddings": k["rope.scaling.original_context_length"],
            "beta_fast": k["rope.scaling.yarn_beta_fast"], "beta_slow": k["rope.scaling.yarn_beta_slow"],
            "mscale": 1.0, "mscale_all_dim": k["rope.scaling.yarn_log_multiplier"],
            "llama_4_scaling_beta": k["attention.temperature_scale"],
        }
    }  # fmt: skip


def _lfm2_config(s: Shape, k: dict[str, Any], _: Tensors) -> dict[str, Any]:
    return {
        "layer_types": ["full_attention" if n else "conv" for n in k["attention.head_count_kv"]],
        "conv_L_cache": k["shortconv.l_cache"], "norm_eps": k["attention.layer_norm_rms_epsilon"],
        "block_auto_adjust_ff_dim": False, "conv_bias": False,
    }  # fmt: skip


def _qwen35_config(s: Shape, k: dict[str, Any], _: Tensors) -> dict[str, Any]:
    factor = k["rope.dimension_count"] / s.head_dim
    return {
        "layer_types": ["linear_attention" if (i + 1) % 4 else "full_attention" for i in range(s.layers)],
        "linear_conv_kernel_dim": k["ssm.conv_kernel"], "linear_key_head_dim": k["ssm.state_size"],
        "linear_value_head_dim": k["ssm.state_size"], "linear_num_key_heads": k["ssm.group_count"],
        "linear_num_value_heads": k["ssm.time_step_rank"], "attn_output_gate": True,
        "rope_parameters": {
            "rope_type": "default", "rope_theta": k["rope.freq_base"], "partial_rotary_factor": factor,
            "mrope_section": k["rope.dimension_sections"][:3], "mrope_interleaved": True,
        },
    }  # fmt: skip


def _expert_config(s: Shape, k: dict[str, Any], _: Tensors) -> dict[str, Any]:
    return {
        "num_experts": k["expert_count"], "num_experts_per_tok": k["expert_used_count"],
        "moe_intermediate_size": k["expert_feed_forward_length"], "norm_topk_prob": True,
    }  # fmt: skip


def _lfm2moe_config(s: Shape, k: dict[str, Any], factors: Tensors) -> dict[str, Any]:
    return _lfm2_config(s, k, factors) | _expert_config(s, k, factors) | {"num_dense_layers": 1}


CONFIGS: Final = {
    "gemma": _gemma_config, "gemma2": _gemma2_config, "gemma3": _gemma3_config,
    "gemma-embedding": _gemma3_config, "gemma4": _gemma4_config, "phi3": _phi3_config,
    "granite": _granite_config, "mistral3": _mistral3_config,
    "lfm2": _lfm2_config, "lfm2moe": _lfm2moe_config, "qwen35": _qwen35_config, "qwen3moe": _expert_config,
}  # fmt: skip
