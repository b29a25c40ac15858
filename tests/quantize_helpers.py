"""Helpers for tests of the converter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

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
