"""Reads a Hugging Face checkpoint folder: JSON files and safetensors. Every byte of them may be hostile.

The safetensors format: https://github.com/huggingface/safetensors#format. We do not use the safetensors
package because numpy has no bfloat16, and because we read rows without loading the whole tensor.
"""

from __future__ import annotations

import json
import logging
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeGuard

import numpy as np
import numpy.typing as npt

from binhdan.runtime.errors import BadFormatError
from binhdan.runtime.reasons import file_reason

MAX_JSON_BYTES: Final = 256 << 20  # the largest known tokenizer.json has 35 MB
_MAX_NAMES: Final = 4  # of files in a message
MAX_HEADER_BYTES: Final = 100 << 20  # the limit of the safetensors package

# Starts of files that are not what their names say, and what to do.
_OTHER_CONTENT: Final = {
    b"version https://git-lfs": "a git-lfs pointer; run git lfs pull, or download the file itself",
    b"<!doctype html": "an HTML page; the download failed, e.g. for want of a login; download the file again",
    b"<html": "an HTML page; the download failed, e.g. for want of a login; download the file again",
    b"PK\x03\x04": "a zip archive, as torch.save writes; expected the format that its name says",
}

# Wrappers that training libraries and multimodal models put before the names of tensors.
_PREFIXES: Final = (
    "module.",
    "model.",
    "language_model.",
    "text_model.",
    "transformer.",
    "bert.",
    "roberta.",
)

_FLOAT_DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),  # the upper half of a float32
}


class CheckpointError(BadFormatError):
    """The checkpoint is damaged, incomplete or of a kind that binhdan cannot convert."""


def canonical_name(name: str) -> str:
    """Returns a tensor's name without wrappers: model.language_model.layers.0.x → layers.0.x."""
    name = name.replace("_orig_mod.", "")  # torch.compile
    while name.startswith(_PREFIXES):
        name = name.partition(".")[2]
    return name


def check_content(path: Path, start: bytes) -> None:
    """Raises CheckpointError if the first bytes of a file are those of something else."""
    for other, meaning in _OTHER_CONTENT.items():
        if start.lstrip()[: len(other)].lower() == other.lower():
            raise CheckpointError(f"{path}: the file is {meaning}")


def read_json(path: Path) -> dict[str, Any]:
    """Returns the JSON object in ``path``. Raises CheckpointError if the file is missing or invalid."""
    try:
        size = path.stat().st_size
        if size > MAX_JSON_BYTES:
            raise CheckpointError(f"{path}: {size:,} bytes; expected at most {MAX_JSON_BYTES:,}")
        raw = path.read_bytes()
        check_content(path, raw[:64])
        return parse_json(raw, str(path))
    except OSError as error:
        raise CheckpointError(file_reason(error, path)) from None


def parse_json(raw: bytes, name: str) -> dict[str, Any]:
    """Parses one JSON object from ``raw``; ``name`` is the file's name in errors. Raises CheckpointError.

    A duplicate key is an error, because JSON readers disagree on which value counts.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        out = dict(pairs)
        if len(out) != len(pairs):
            counts = Counter(key for key, _ in pairs)
            duplicate = max(counts, key=counts.__getitem__)
            raise CheckpointError(f"{name}: duplicate key {duplicate!r}")
        return out

    try:
        text = raw.decode("utf-8")
        value = json.loads(text, object_pairs_hook=unique)
        if "\\ud" in text or "\\uD" in text:  # encode() fails for an unpaired surrogate
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise CheckpointError(f"{name}: objects and arrays are nested too deeply") from None
    except MemoryError:
        raise CheckpointError(f"{name}: not enough memory to parse {len(raw):,} bytes of JSON") from None
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(f"{name}: not valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{name}: expected a JSON object, got {type(value).__name__}")
    return value


@dataclass(frozen=True)
class StoredTensor:
    """The position of a tensor in a safetensors file."""

    name: str
    file: Path
    dtype: str  # the name in safetensors, such as "BF16"
    shape: tuple[int, ...]
    offset: int  # bytes from the start of the file

    @property
    def rows(self) -> int:
        """Rows of the tensor as a matrix; a vector has rows of one value."""
        return math.prod(self.shape[:-1]) if len(self.shape) > 1 else math.prod(self.shape)

    @property
    def columns(self) -> int:
        return self.shape[-1] if len(self.shape) > 1 else 1

    def check_readable(self) -> None:
        """Raises CheckpointError if the type is not floating point."""
        if self.dtype not in _FLOAT_DTYPES:
            expected = ", ".join(_FLOAT_DTYPES)
            raise CheckpointError(f"tensor {self.name}: type {self.dtype}; expected one of {expected}")

    def read(self, begin: int, end: int) -> npt.NDArray[np.float32]:
        """Reads rows ``begin`` to ``end``, (end - begin, columns). Raises CheckpointError for inf or NaN."""
        dtype = _FLOAT_DTYPES[self.dtype]
        count = (end - begin) * self.columns
        values = np.fromfile(
            self.file, dtype, count, offset=self.offset + begin * self.columns * dtype.itemsize
        )
        if len(values) != count:
            raise CheckpointError(f"{self.file}: the file was truncated during the read")
        if self.dtype == "BF16":
            values = (values.astype(np.uint32) << 16).view(np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # a float64 out of range becomes inf
            rows: npt.NDArray[np.float32] = values.astype(np.float32, copy=False)
        if not np.isfinite(rows).all():
            raise CheckpointError(f"{self.file}: tensor {self.name} contains inf or NaN")
        return rows.reshape(end - begin, self.columns)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint folder: its parsed JSON files and the positions of its tensors."""

    folder: Path
    config: dict[str, Any]
    tokenizer: dict[str, Any]
    tokenizer_config: dict[str, Any]
    generation_config: dict[str, Any]
    chat_template: str  # "": no template
    tensors: dict[str, StoredTensor]  # by canonical name


def open_checkpoint(folder: Path) -> Checkpoint:
    """Reads the JSON files and the safetensors headers of ``folder``. Raises CheckpointError."""
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: expected a folder with config.json and *.safetensors")
    if not (folder / "config.json").exists():
        names = sorted(path.name for path in islice(folder.iterdir(), _MAX_NAMES))
        raise CheckpointError(
            f"{folder}: expected a folder with config.json and *.safetensors, got "
            + (f"one with {', '.join(names)}" if names else "an empty folder")
        )
    config = read_json(folder / "config.json")
    if "quantization_config" in config:
        raise CheckpointError(
            f"{folder / 'config.json'}: the checkpoint is already quantized; expected the original weights"
        )
    if not (folder / "tokenizer.json").exists() and (folder / "tokenizer.model").exists():
        raise CheckpointError(
            f"{folder}: expected tokenizer.json, found only tokenizer.model; transformers makes it:"
            " AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
        )
    tokenizer_config = _read_optional(folder / "tokenizer_config.json")
    return Checkpoint(
        folder=folder,
        config=config,
        tokenizer=read_json(folder / "tokenizer.json"),
        tokenizer_config=tokenizer_config,
        generation_config=_read_optional(folder / "generation_config.json"),
        chat_template=_chat_template(folder, tokenizer_config),
        tensors=_read_headers(folder),
    )


def _read_headers(folder: Path) -> dict[str, StoredTensor]:
    tensors: dict[str, StoredTensor] = {}
    for file in _weight_files(folder):
        for tensor in read_header(file):
            other = tensors.setdefault(canonical_name(tensor.name), tensor)
            if other is not tensor:
                raise CheckpointError(f"{file}: {tensor.name!r} and {other.name!r} are the same tensor")
    return tensors


def _read_optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}


def _chat_template(folder: Path, tokenizer_config: dict[str, Any]) -> str:
    """Returns the chat template, or "".

    As in transformers, chat_template.jinja takes precedence over chat_template.json, and that over
    tokenizer_config.json.
    """
    path = folder / "chat_template.jinja"
    if path.exists():
        try:
            if path.stat().st_size > MAX_JSON_BYTES:
                raise CheckpointError(f"{path}: expected at most {MAX_JSON_BYTES:,} bytes")
            return path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{path}: {error}") from None
    template = _read_optional(folder / "chat_template.json").get("chat_template")
    template = tokenizer_config.get("chat_template") if template is None else template
    if isinstance(template, list):  # named templates: [{"name": "default", "template": "…"}, …]
        named = {t.get("name"): t.get("template") for t in template if isinstance(t, dict)}
        name = "default" if "default" in named else next((n for n in named if n != "rerank"), None)
        template = named.get(name)
        if template is not None and name != "default":
            log = logging.getLogger("binhdan")
            log.warning("%s: there is no default chat template; %r is used", folder, name)
    if template is None:
        return ""
    if not isinstance(template, str):
        raise CheckpointError(
            f"{folder}: expected chat_template to be a string, got {type(template).__name__}"
        )
    return template


def _weight_files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if index.exists():
        names = read_json(index).get("weight_map")
        if not isinstance(names, dict) or not all(isinstance(file, str) for file in names.values()):
            raise CheckpointError(f"{index}: expected weight_map to be an object of file names")
        files = sorted(set(names.values()))
        for file in files:
            if Path(file).name != file or not file.endswith(".safetensors"):
                raise CheckpointError(
                    f"{index}: expected the name of a safetensors file in this folder, got {file!r}"
                )
        return [folder / file for file in files]
    single = folder / "model.safetensors"
    if not single.exists():
        pickles = sorted(path.name for path in folder.glob("*.bin"))
        hint = f"; got {pickles[0]}: save the model again with safe_serialization=True" if pickles else ""
        raise CheckpointError(f"{folder}: expected model.safetensors or model.safetensors.index.json{hint}")
    return [single]


def read_header(path: Path) -> Iterator[StoredTensor]:
    """Yields the tensors of one safetensors file. Raises CheckpointError if one exceeds the file."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(64)
            check_content(path, start)
            file.seek(8)
            length = int.from_bytes(start[:8], "little")
            if size < 8 or length > min(MAX_HEADER_BYTES, size - 8):
                raise CheckpointError(
                    f"{path}: not a safetensors file: the header has {length:,} bytes, the file {size:,}"
                )
            header = parse_json(file.read(length), f"{path} header")
    except OSError as error:
        raise CheckpointError(file_reason(error, path)) from None
    for name, entry in header.items():
        if name != "__metadata__":
            yield _stored_tensor(path, name, entry, 8 + length, size)


def _stored_tensor(path: Path, name: str, entry: Any, start: int, size: int) -> StoredTensor:
    where = f"{path}: tensor {name!r}"
    if not isinstance(entry, dict):
        raise CheckpointError(f"{where}: expected an object, got {type(entry).__name__}")
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2:
        raise CheckpointError(f"{where}: expected dtype, shape and data_offsets, got {str(entry)[:200]}")
    begin, end = offsets
    if begin > end or end > size - start:
        raise CheckpointError(
            f"{where}: data_offsets {begin:,} to {end:,} exceed {size - start:,} bytes;"
            " is the file truncated?"
        )
    if dtype in _FLOAT_DTYPES and math.prod(shape) * _FLOAT_DTYPES[dtype].itemsize != end - begin:
        raise CheckpointError(f"{where}: shape {shape} of {dtype} does not fill {end - begin:,} bytes")
    return StoredTensor(name, path, dtype, tuple(shape), start + begin)


def _are_sizes(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 1 << 48 for n in value)
