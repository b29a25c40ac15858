"""Regenerates conversion_goldens.json: tiny checkpoints of transformers, and what llama.cpp converts them to.

    pip install torch --index-url https://download.pytorch.org/whl/cpu && pip install '.[goldens]'
    python tests/quantize/make_conversion_goldens.py LLAMA_CPP_FOLDER

LLAMA_CPP_FOLDER is a clone of llama.cpp. Each entry has
- `config` and `tensors` (name → shape): what save_pretrained writes for a random model of the family;
- `gguf_keys` and `gguf_tensors` (name → shape, CRC-32 of the float32 values): the output of llama.cpp's
  converter for these tensors with the values of tiny_checkpoints.family_tensors, without its vocabulary.
"""

from __future__ import annotations

import json
import sys
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

LLAMA_CPP: Final = Path(sys.argv[1] if len(sys.argv) == 2 else sys.exit(__doc__))
sys.path[:0] = [str(LLAMA_CPP / "gguf-py"), str(LLAMA_CPP), str(Path(__file__).parent.parent)]
from tiny_checkpoints import GOLDENS, write_family  # noqa: E402  # after the path: llama.cpp's gguf is newer

VOCABULARY: Final = 320
_BASE: Final = {
    "vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256, "eos_token_id": 2,
    "bos_token_id": None, "pad_token_id": 0,
}  # fmt: skip
_ENCODER: Final = {
    "vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4,
}  # fmt: skip
_XLM_R: Final = {
    "max_position_embeddings": 130, "type_vocab_size": 1, "pad_token_id": 1, "bos_token_id": 0,
    "eos_token_id": 2,
}  # fmt: skip
_GEMMA3: Final = {
    "num_hidden_layers": 7, "head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 64
}  # fmt: skip
_GEMMA4: Final = {
    "num_hidden_layers": 6, "head_dim": 16, "global_head_dim": 32, "hidden_size_per_layer_input": 16,
    "vocab_size_per_layer_input": VOCABULARY, "num_kv_shared_layers": 2, "sliding_window": 64,
    "final_logit_softcapping": 30.0, "use_double_wide_mlp": True,
    "layer_types": ["sliding_attention"] * 3 + ["full_attention", "sliding_attention", "full_attention"],
}  # fmt: skip
_QWEN35: Final = {
    "num_hidden_layers": 4, "head_dim": 32, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
    "linear_key_head_dim": 16, "linear_value_head_dim": 16, "linear_conv_kernel_dim": 4,
}  # fmt: skip
_YARN: Final = {
    "rope_type": "yarn", "rope_theta": 1e6, "factor": 16.0, "original_max_position_embeddings": 16,
    "beta_fast": 32.0, "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1,
}  # fmt: skip
_LONG: Final = {
    "rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": 64,
    "short_factor": [1.0 + 0.125 * i for i in range(8)], "long_factor": [2.0 + i for i in range(8)],
}  # fmt: skip
_CONVOLUTIONS: Final = {
    "num_hidden_layers": 3, "layer_types": ["conv", "full_attention", "conv"], "conv_L_cache": 3
}  # fmt: skip
_EXPERTS: Final = {"num_experts_per_tok": 2, "moe_intermediate_size": 32, "norm_topk_prob": True}

# name → (model class, config class, arguments of the config)
MODELS: Final[dict[str, tuple[str, str, dict[str, Any]]]] = {
    "llama-biases": ("LlamaForCausalLM", "LlamaConfig", {"attention_bias": True, "mlp_bias": True}),
    "gemma": ("GemmaForCausalLM", "GemmaConfig", {"head_dim": 32}),
    "gemma2": ("Gemma2ForCausalLM", "Gemma2Config",
               {"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 64}),
    "gemma3": ("Gemma3ForCausalLM", "Gemma3TextConfig", _GEMMA3),
    "gemma-embedding": ("Gemma3TextModel", "Gemma3TextConfig",
                        _GEMMA3 | {"use_bidirectional_attention": True}),
    "gemma4": ("Gemma4ForCausalLM", "Gemma4TextConfig", _GEMMA4),
    "qwen35": ("Qwen3_5ForCausalLM", "Qwen3_5TextConfig", _QWEN35),
    "qwen3moe": ("Qwen3MoeForCausalLM", "Qwen3MoeConfig", _EXPERTS | {"head_dim": 16, "num_experts": 4}),
    "lfm2": ("Lfm2ForCausalLM", "Lfm2Config",
             _CONVOLUTIONS | {"block_auto_adjust_ff_dim": True, "block_multiple_of": 32}),
    "lfm2moe": ("Lfm2MoeForCausalLM", "Lfm2MoeConfig",
                _CONVOLUTIONS | _EXPERTS | {"num_experts": 4, "num_dense_layers": 1}),
    "phi3": ("Phi3ForCausalLM", "Phi3Config",
             {"original_max_position_embeddings": 64, "rope_parameters": _LONG}),
    "phi3-window": ("Phi3ForCausalLM", "Phi3Config",
                    {"original_max_position_embeddings": 256, "sliding_window": 64}),
    "smollm3": ("SmolLM3ForCausalLM", "SmolLM3Config", {"num_hidden_layers": 5}),
    "granite": ("GraniteForCausalLM", "GraniteConfig",
                {"embedding_multiplier": 12.0, "attention_multiplier": 0.0625, "residual_multiplier": 0.22,
                 "logits_scaling": 8.0}),
    "mistral3": ("Ministral3ForCausalLM", "Ministral3Config", {"head_dim": 32, "rope_parameters": _YARN}),
    "exaone4": ("Exaone4ForCausalLM", "Exaone4Config",
                {"num_hidden_layers": 4, "sliding_window": 64, "sliding_window_pattern": 4}),
    "bert": ("BertModel", "BertConfig", _ENCODER | {"max_position_embeddings": 128}),
    "xlm-roberta": ("XLMRobertaModel", "XLMRobertaConfig", _ENCODER | _XLM_R),
    "xlm-roberta-rank": ("XLMRobertaForSequenceClassification", "XLMRobertaConfig",
                         _ENCODER | _XLM_R | {"num_labels": 1}),
    "mpt": ("MptForCausalLM", "MptConfig",
            {"d_model": 64, "n_heads": 4, "n_layers": 2, "vocab_size": VOCABULARY, "max_seq_len": 128}),
}  # fmt: skip
_ENCODERS: Final = ("bert", "xlm-roberta", "xlm-roberta-rank", "mpt")  # those without _BASE
_MULTIMODAL: Final = {"gemma3": "gemma3-vision", "gemma4": "gemma4-vision", "qwen35": "qwen35-vision"}


def build(name: str) -> Any:
    import transformers

    model_class, config_class, arguments = MODELS[name]
    arguments = arguments if name in _ENCODERS else _BASE | arguments
    return getattr(transformers, model_class)(getattr(transformers, config_class)(**arguments))


def build_multimodal(name: str) -> Any:
    """Returns a model with images; its text part is that of `name`."""
    import transformers as t

    text = build(name).config
    if name == "gemma3":
        vision = t.SiglipVisionConfig(
            hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=32,
            patch_size=16,
        )  # fmt: skip
        config = t.Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
        return t.Gemma3ForConditionalGeneration(config)
    if name == "gemma4":
        config = t.Gemma4Config(text_config=text, vision_config=None, audio_config=None)
        return t.Gemma4ForConditionalGeneration(config)
    sizes = {"depth": 1, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 64}
    return t.Qwen3_5ForConditionalGeneration(t.Qwen3_5Config(text_config=text.to_dict(), vision_config=sizes))


def saved(build_model: Callable[[], Any]) -> tuple[dict[str, Any], dict[str, list[int]]]:
    """Returns the config.json and the tensor shapes that save_pretrained writes."""
    with tempfile.TemporaryDirectory() as folder:
        build_model().save_pretrained(folder)
        config = json.loads((Path(folder) / "config.json").read_text("utf-8"))
        raw = (Path(folder) / "model.safetensors").read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    header.pop("__metadata__", None)
    if config["architectures"] == ["MptForCausalLM"]:
        config["architectures"] = ["MPTForCausalLM"]  # as in published checkpoints
    return config, {name: entry["shape"] for name, entry in header.items()}


def convert_with_llama_cpp(folder: Path, output: Path) -> None:
    """Runs the converter class of the checkpoint's architecture, without the vocabulary."""
    import conversion  # type: ignore[import-not-found]  # llama.cpp's package
    import gguf
    from conversion.base import ModelBase, ModelType, get_model_architecture  # type: ignore[import-not-found]

    config = ModelBase.load_hparams(folder, False)
    converter = conversion.get_model_class(get_model_architecture(config, ModelType.TEXT))
    for base in converter.__mro__:
        if "set_vocab" in base.__dict__:
            base.set_vocab = lambda self: None
    if hasattr(converter, "no_mtp"):
        converter.no_mtp = True
    model = converter(folder, gguf.LlamaFileType.ALL_F32, output, eager=True)
    getattr(model, "impl", model).set_vocab = lambda: None
    model.write()


def make(build_model: Callable[[], Any]) -> dict[str, Any]:
    import gguf

    config, shapes = saved(build_model)
    with tempfile.TemporaryDirectory() as name:
        folder = write_family(Path(name) / "in", config, shapes)
        convert_with_llama_cpp(folder, Path(name) / "out.gguf")
        reader = gguf.GGUFReader(Path(name) / "out.gguf")
        keys = {key: field.contents() for key, field in reader.fields.items()}
        prefix = keys["general.architecture"] + "."
        return {
            "config": config,
            "tensors": shapes,
            "gguf_keys": {
                key: value for key, value in keys.items()
                if key.startswith(prefix) or key == "general.architecture"
            },
            "gguf_tensors": {
                t.name: [list(map(int, t.shape))[::-1], zlib.crc32(t.data.tobytes())] for t in reader.tensors
            },
        }  # fmt: skip


def main() -> None:
    goldens = {name: make(lambda name=name: build(name)) for name in MODELS}
    goldens |= {
        golden: make(lambda name=name: build_multimodal(name)) for name, golden in _MULTIMODAL.items()
    }
    lines = [f'"{name}": {json.dumps(value)}' for name, value in goldens.items()]
    GOLDENS.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")


if __name__ == "__main__":
    main()
