"""LoRA adapters for the tests: random ones, in llama.cpp's format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from tiny_models import Floats, random_tensor

from binhdan.runtime.client.model import embedded_model

Pairs = dict[str, tuple[Floats, Floats]]  # tensor of the model → A (rank, columns), B (rows, rank)


def random_pairs(
    shapes: Mapping[str, tuple[int, ...]], rank: int = 4, seed: int = 1, dtype: type[Any] = np.float16
) -> Pairs:
    """Changes of the matrices with these shapes, (rows, columns), that are about as large as the matrices.
    Their values are rounded to `dtype`."""
    pairs = {}
    for name, (rows, columns) in shapes.items():
        down = random_tensor(f"{name}.a", (rank, columns), seed)
        up = random_tensor(f"{name}.b", (rows, rank), seed)
        down, up = down / np.std(down) / columns**0.5, up / np.std(up) / rank**0.5
        pairs[name] = down.astype(dtype).astype(np.float32), up.astype(dtype).astype(np.float32)
    return pairs


def write_adapter(
    path: Path,
    pairs: Pairs,
    architecture: str,
    *,
    alpha: float = 4.0,
    type: str = "F32",
    keys: Mapping[str, Any] | None = None,
    drop: Sequence[str] = (),
) -> Path:
    """Writes the adapter, with other values for some string `keys`, and without the tensors `drop`."""
    texts = {"general.type": "adapter", "adapter.type": "lora"} | dict(keys or {})
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in texts.items():
        writer.add_string(key, value)
    writer.add_float32("adapter.lora.alpha", alpha)
    for name, parts in pairs.items():
        for suffix, values in zip(("lora_a", "lora_b"), parts, strict=True):
            if f"{name}.{suffix}" not in drop:
                writer.add_tensor(
                    f"{name}.{suffix}", values.astype(np.float16 if type == "F16" else np.float32)
                )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def embedded_adapter(path: Path, rank: int = 4, seed: int = 1, size: float = 1.0) -> Path:
    """An adapter for the embedded model that changes its answers; `size` scales the changes."""
    reader = gguf.GGUFReader(embedded_model())
    shapes = {
        tensor.name: tuple(int(n) for n in tensor.shape[::-1])
        for tensor in reader.tensors
        if tensor.name.startswith("blk.") and len(tensor.shape) == 2
    }
    architecture = reader.fields["general.architecture"].contents()
    return write_adapter(path, random_pairs(shapes, rank, seed), architecture, alpha=rank * size)


def change(pair: tuple[Floats, Floats], alpha: float = 4.0) -> Any:
    """What the adapter adds to the matrix, in float64."""
    down, up = (part.astype(np.float64) for part in pair)
    return up @ down * (alpha / len(down))
