"""Tiny Hugging Face checkpoints of every family that quantize/families/ lists.

Their configs and tensor shapes are those that transformers saves; quantize/make_conversion_goldens.py wrote
them to quantize/conversion_goldens.json, with what llama.cpp's converter makes of each checkpoint.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, Final

from tiny_models import CHATML, Floats, hf_tokenizer, random_tensor, write_safetensors

GOLDENS: Final = Path(__file__).parent / "quantize" / "conversion_goldens.json"


@cache
def goldens() -> dict[str, Any]:
    """Returns name → {config, tensors, gguf_keys, gguf_tensors}."""
    value: dict[str, Any] = json.loads(GOLDENS.read_text("utf-8"))
    return value


def family_tensors(shapes: dict[str, list[int]]) -> dict[str, Floats]:
    """Returns the values of a checkpoint; they depend on the names and shapes alone."""
    return {name: random_tensor(name, tuple(shape)) for name, shape in shapes.items()}


def write_family(folder: Path, config: dict[str, Any], shapes: dict[str, list[int]]) -> Path:
    """Writes a checkpoint with a byte-level vocabulary, also for families with another one."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer_config = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "chat_template": CHATML}
    files = {
        "config.json": config,
        "tokenizer.json": hf_tokenizer("gpt2"),
        "tokenizer_config.json": tokenizer_config,
    }
    for name, value in files.items():
        (folder / name).write_text(json.dumps(value, ensure_ascii=False), "utf-8")
    write_safetensors(folder / "model.safetensors", family_tensors(shapes))
    return folder


def write_golden_family(folder: Path, name: str) -> Path:
    golden = goldens()[name]
    return write_family(folder, golden["config"], golden["tensors"])
