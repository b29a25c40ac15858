"""Reads what sentence-transformers adds to a checkpoint: modules.json, pooling and dense layers."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from binhdan.quantize.checkpoint import CheckpointError, StoredTensor, check_content, read_header, read_json
from binhdan.quantize.config import Config

_POOLING: Final = {"mean": 1, "cls": 2, "lasttoken": 3}  # values of pooling_type in GGUF
_DENSE_NAMES: Final = ("dense_2", "dense_3")  # the modules after Transformer (0) and Pooling (1)
_IDENTITY: Final = "torch.nn.modules.linear.Identity"
_MAX_MODULES_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class SentenceModules:
    pooling_type: int | None = None  # None: there is no Pooling module
    dense: dict[str, StoredTensor] = field(default_factory=dict)  # dense_2 → its weight, (out, in)


def read_modules(folder: Path, width: int) -> SentenceModules:
    """Reads modules.json and the modules that it names; ``width`` is that of an embedding.

    Raises CheckpointError for a module that GGUF cannot express.
    """
    pooling: int | None = None
    dense: dict[str, StoredTensor] = {}
    for kind, path in _module_list(folder / "modules.json"):
        if kind == "Pooling":
            pooling = _pooling_type(folder / path / "config.json")
        elif kind == "Dense":
            if len(dense) == len(_DENSE_NAMES):
                raise CheckpointError(f"{folder / 'modules.json'}: expected at most 2 Dense modules")
            dense[_DENSE_NAMES[len(dense)]] = _dense(folder / path)
        elif kind not in ("Transformer", "Normalize"):  # readers of GGUF normalise
            raise CheckpointError(
                f"{folder / 'modules.json'}: module {kind[:80]!r} is not supported;"
                " expected Transformer, Pooling, Dense and Normalize"
            )
    size = width
    for tensor in dense.values():
        if tensor.shape[1] != size:
            raise CheckpointError(f"{tensor.file}: expected {size} columns, got {tensor.shape[1]}")
        size = tensor.shape[0]
    if dense and (len(dense) != len(_DENSE_NAMES) or size != width):
        raise CheckpointError(
            f"{folder}: expected 2 Dense modules, the last with {width} outputs, got {len(dense)} with {size}"
        )
    return SentenceModules(pooling, dense)


def _module_list(path: Path) -> list[tuple[str, Path]]:
    """Returns the kind and the folder of each module; none if the file is missing."""
    try:
        if path.stat().st_size > _MAX_MODULES_BYTES:
            raise CheckpointError(f"{path}: expected at most {_MAX_MODULES_BYTES:,} bytes")
        raw = path.read_bytes()
        check_content(path, raw[:64])
        modules = json.loads(raw)
    except FileNotFoundError:
        return []
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: {error}") from None
    if not isinstance(modules, list):
        raise CheckpointError(f"{path}: expected a list, got {type(modules).__name__}")
    return [_module(module, path) for module in modules]


def _module(module: Any, path: Path) -> tuple[str, Path]:
    kind = module.get("type") if isinstance(module, dict) else None
    folder = module.get("path") if isinstance(module, dict) else None
    if not isinstance(kind, str) or not isinstance(folder, str):
        raise CheckpointError(f"{path}: expected objects with type and path, got {str(module)[:80]}")
    if Path(folder).is_absolute() or ".." in Path(folder).parts:
        raise CheckpointError(f"{path}: expected folders inside the checkpoint, got {folder[:80]!r}")
    return kind.rpartition(".")[2], Path(folder)


def _pooling_type(path: Path) -> int:
    c = Config(read_json(path), str(path))
    prefix = "pooling_mode_"
    flags = [name.removeprefix(prefix) for name, on in c.values.items() if name.startswith(prefix) and on]
    modes = [name.removesuffix("_tokens").removesuffix("_token") for name in flags]
    if isinstance(c.get("pooling_mode"), str):
        modes.append(c.get("pooling_mode"))
    if len(modes) != 1 or modes[0] not in _POOLING:
        raise CheckpointError(
            f"{path}: expected one pooling of mean, cls and lasttoken, got {str(modes)[:80]}"
        )
    return _POOLING[modes[0]]


def _dense(folder: Path) -> StoredTensor:
    c = Config(read_json(folder / "config.json"), str(folder / "config.json"))
    c.expect("bias", False)
    c.expect("activation_function", _IDENTITY)
    tensors = {tensor.name: tensor for tensor in read_header(folder / "model.safetensors")}
    weight = tensors.pop("linear.weight", None)
    if weight is None or tensors or len(weight.shape) != 2:
        raise CheckpointError(
            f"{folder / 'model.safetensors'}: expected one matrix, linear.weight,"
            f" got {str(list(tensors))[:80]}"
        )
    return weight
