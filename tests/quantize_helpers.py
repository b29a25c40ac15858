"""Helpers for tests of the converter."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
from tiny_models import SMALL, hf_config, hf_tensors, write_checkpoint

from binhdan.quantize.keys import ValueType
from binhdan.quantize.vocabulary import Vocabulary, vocabulary_keys


def keys_of(file: Path) -> dict[str, Any]:
    """Returns the metadata of a GGUF file, read by the gguf package."""
    return {name: field.contents() for name, field in gguf.GGUFReader(file).fields.items()}


def values_of(file: Path) -> dict[str, npt.NDArray[np.float32]]:
    """Returns the tensors of a GGUF file, dequantized by the gguf package."""
    return {t.name: gguf.dequantize(t.data, t.tensor_type) for t in gguf.GGUFReader(file).tensors}


def edit_json(path: Path, **changes: Any) -> None:
    """Replaces top-level keys of a JSON file."""
    value = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(value | changes, ensure_ascii=False), "utf-8")


def add_vocabulary(writer: gguf.GGUFWriter, vocabulary: Vocabulary) -> None:
    """Adds the keys of a vocabulary to a file that the gguf package writes."""
    for name, key in vocabulary_keys(vocabulary).items():
        item_type = gguf.GGUFValueType(key.item_type) if key.type == ValueType.ARRAY else None
        writer.add_key_value(name, key.value, gguf.GGUFValueType(key.type), item_type)


def write_sparse_checkpoint(folder: Path, layers: int) -> Path:
    """Writes a checkpoint of zeros as a sparse file: gigabytes that use no disk space."""
    shape = replace(SMALL, layers=layers, width=1024, feed_forward=4096, head_dim=256)
    write_checkpoint(folder, SMALL)
    edit_json(folder / "config.json", **{**hf_config(shape), "architectures": ["LlamaForCausalLM"]})
    one_layer = hf_tensors(replace(shape, layers=1))
    names = {
        name.replace("layers.0.", f"layers.{i}."): value.shape
        for name, value in one_layer.items()
        for i in range(layers)
    }
    end, header = 0, {}
    for name, dims in names.items():
        size = 4 * math.prod(dims)
        header[name] = {"dtype": "F32", "shape": list(dims), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return folder
