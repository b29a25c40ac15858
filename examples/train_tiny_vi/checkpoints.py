"""Saves runs atomically, and reads and writes weights."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from train_tiny_vi.model import Shape, TinyModel


def save_run(path: Path, state: dict[str, Any]) -> None:
    """Writes atomically: a temporary file, then a rename."""
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def load_run(path: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def load_weights(model: TinyModel, path: Path) -> None:
    """Loads a Hugging Face checkpoint or a GGUF file. Raises RuntimeError if names or sizes differ from the
    model's."""
    if path.suffix == ".gguf":
        weights = _dequantized(path, model)
    else:
        weights = load_file(path / "model.safetensors")
        weights.pop("lm_head.weight", None)  # tied
    model.load_state_dict(weights)


def _dequantized(path: Path, model: TinyModel) -> dict[str, torch.Tensor]:
    import gguf  # not needed for training

    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN3, model.shape.layers)
    ours = {names.get_name(name, try_suffixes=(".weight",)): name for name in model.state_dict()}
    return {
        ours.get(tensor.name, tensor.name): torch.tensor(gguf.dequantize(tensor.data, tensor.tensor_type))
        for tensor in gguf.GGUFReader(path).tensors
    }


def write_checkpoint(folder: Path, model: TinyModel) -> None:
    """Writes config.json, generation_config.json and bfloat16 weights as transformers does for Qwen3."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: p.detach().to(torch.bfloat16).contiguous() for name, p in model.named_parameters()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    _write_json(folder / "config.json", qwen3_config(model.shape))
    _write_json(
        folder / "generation_config.json", {"bos_token_id": 0, "eos_token_id": [2, 0], "pad_token_id": 0}
    )


def qwen3_config(shape: Shape) -> dict[str, Any]:
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "vocab_size": shape.vocab,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.ffn,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "max_position_embeddings": shape.context,
        "rope_theta": shape.rope_theta,
        "rms_norm_eps": shape.eps,
        "hidden_act": "silu",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "tie_word_embeddings": True,
        "use_sliding_window": False,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "torch_dtype": "bfloat16",
    }


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
