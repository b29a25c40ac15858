"""Importance files: how large the inputs of each weight matrix are, per column.

The format is llama.cpp's imatrix, as a GGUF file or as the older ``.dat`` file. For a tensor NAME the GGUF
file has ``NAME.in_sum2``, the sums of the squares of each input column, (matrices, columns), and
``NAME.counts``, the rows that were added, (matrices, 1). With experts, a tensor has several matrices.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from binhdan.quantize.draft import Draft, DraftTensor, Floats
from binhdan.quantize.gguf_file import lay_out
from binhdan.quantize.gguf_source import read_part
from binhdan.quantize.keys import RawValue, Value
from binhdan.quantize.output_file import partial_file
from binhdan.runtime.errors import BadFormatError

_SUMS: Final = ".in_sum2"
_COUNTS: Final = ".counts"
_DATASETS: Final = "imatrix.datasets"
_CHUNKS: Final = "imatrix.chunk_count"
_CHUNK_SIZE: Final = "imatrix.chunk_size"
_MAX_FILE: Final = 1 << 31  # bytes


@dataclass
class Importance:
    """Sums of squares of the inputs of matrices."""

    sums: dict[str, Floats] = field(default_factory=dict)  # tensor → (matrices, columns)
    counts: dict[str, Floats] = field(default_factory=dict)  # tensor → (matrices,) rows that were added
    datasets: list[str] = field(default_factory=list)  # the texts
    chunks: int = 0  # windows that were run
    chunk_size: int = 0  # tokens of a window

    def means(self) -> dict[str, Floats]:
        """tensor → mean square of each input column, (columns,) or, of experts, (matrices, columns).

        Columns of a matrix without rows are 1.
        """
        result = {}
        for name, sums in self.sums.items():
            counts = self.counts[name][:, None]
            means = np.where(counts > 0, sums / np.maximum(counts, 1), np.float32(1))
            result[name] = means[0] if len(means) == 1 else means
        return result


def read_importance(path: Path) -> dict[str, Floats]:
    """tensor → mean square of each input column. Raises BadFormatError, OSError."""
    return load_importance(path).means()


def load_importance(path: Path) -> Importance:
    """Reads an importance file of either format. Raises BadFormatError, OSError."""
    size = path.stat().st_size
    if size > _MAX_FILE:
        raise BadFormatError(
            f"{path}: expected an importance file of at most {_MAX_FILE:,} bytes, got {size:,}"
        )
    with path.open("rb") as file:
        magic = file.read(4)
    importance = _read_gguf(path) if magic == b"GGUF" else _read_legacy(path)
    if not importance.sums:
        raise BadFormatError(f"{path}: expected an importance file, got one without entries")
    for name, sums in importance.sums.items():
        for values, what in ((sums, "sums of squares"), (importance.counts[name], "counts")):
            if not np.isfinite(values).all() or (values < 0).any():
                raise BadFormatError(f"{path}: tensor {name!r}: expected finite {what} from 0 on")
    return importance


def write_importance(path: Path, importance: Importance) -> None:
    """Writes a GGUF file that llama.cpp reads. The write is atomic. Raises OSError."""
    values: dict[str, Floats] = {}
    for name, sums in sorted(importance.sums.items()):
        values[name + _SUMS] = np.ascontiguousarray(sums, "<f4")
        values[name + _COUNTS] = np.ascontiguousarray(importance.counts[name][:, None], "<f4")
    keys: dict[str, Value] = {
        "general.type": "imatrix",
        _DATASETS: importance.datasets,
        _CHUNKS: importance.chunks,
        _CHUNK_SIZE: importance.chunk_size,
    }
    tensors = [DraftTensor(name, array.shape, "F32", partial(_rows, array)) for name, array in values.items()]
    draft = Draft(path, {name: RawValue.of(value) for name, value in keys.items()}, tensors)
    layout = lay_out(draft, dict.fromkeys(values, "F32"))
    with partial_file(path, layout.size) as (file, _):
        file.write(layout.header)
        for name, array in values.items():
            file.seek(layout.offsets[name])
            file.write(array.tobytes())


def _rows(values: Floats, begin: int, end: int) -> Floats:
    return values[begin:end]


# ---- GGUF --------------------------------------------------------------------------------------------------


def _read_gguf(path: Path) -> Importance:
    keys, tensors = read_part(path)
    found = {tensor.name: tensor for tensor in tensors}
    if len(found) < len(tensors):
        raise BadFormatError(f"{path}: expected tensors of different names")
    if not any(name.endswith(_SUMS) for name in found):
        raise BadFormatError(
            f"{path}: expected an importance file with tensors that end in {_SUMS}, got a GGUF file without"
            " them; is it a model?"
        )
    importance = Importance(
        datasets=_datasets(path, keys),
        chunks=_count(path, keys, _CHUNKS),
        chunk_size=_count(path, keys, _CHUNK_SIZE),
    )
    for tensor in found.values():
        if not tensor.name.endswith(_SUMS):
            continue
        name = tensor.name.removesuffix(_SUMS)
        counts = found.get(name + _COUNTS)
        if counts is None:
            raise BadFormatError(f"{path}: tensor {name + _COUNTS!r} is missing; {tensor.name!r} needs it")
        importance.sums[name] = _values(path, tensor)
        importance.counts[name] = _values(path, counts).reshape(-1)
        if len(importance.counts[name]) != tensor.rows:
            raise BadFormatError(
                f"{path}: tensor {counts.name!r}: expected {tensor.rows:,} counts, one for each matrix,"
                f" got {len(importance.counts[name]):,}"
            )
    return importance


def _values(path: Path, tensor: DraftTensor) -> Floats:
    """All values, (rows, columns)."""
    if tensor.type != "F32":
        raise BadFormatError(f"{path}: tensor {tensor.name!r}: expected the type F32, got {tensor.type}")
    return tensor.read(0, tensor.rows)


def _count(path: Path, keys: dict[str, RawValue], name: str) -> int:
    value = keys[name].value if name in keys else 0
    if type(value) is not int or value < 0:
        raise BadFormatError(f"{path}: key {name!r}: expected a count, got {str(value)[:80]!r}")
    return value


def _datasets(path: Path, keys: dict[str, RawValue]) -> list[str]:
    value = keys[_DATASETS].value if _DATASETS in keys else []
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise BadFormatError(f"{path}: key {_DATASETS!r}: expected strings, got {str(value)[:80]!r}")
    return [str(entry) for entry in value]


# ---- the older format --------------------------------------------------------------------------------------


class _Cursor:
    def __init__(self, path: Path) -> None:
        self._path, self._data, self._at = path, path.read_bytes(), 0

    def take(self, size: int, what: str) -> bytes:
        left = len(self._data) - self._at
        if not 0 <= size <= left:
            raise BadFormatError(
                f"{self._path}: expected an importance file: {what} at byte {self._at:,} has {size:,} bytes,"
                f" the file has {left:,} more"
            )
        self._at += size
        return self._data[self._at - size : self._at]

    def number(self, what: str) -> int:
        return int(struct.unpack("<i", self.take(4, what))[0])

    @property
    def ended(self) -> bool:
        return self._at == len(self._data)


def _read_legacy(path: Path) -> Importance:
    """Entries of name, calls and the mean squares times calls; then the calls in all and the text's name."""
    cursor = _Cursor(path)
    importance = Importance()
    count = cursor.number("the count of entries")
    if count < 1:
        raise BadFormatError(f"{path}: expected an importance file, got {count:,} entries")
    for _ in range(count):  # the cursor fails at the end of the file
        raw = cursor.take(cursor.number("the size of a name"), "a name")
        name = raw.decode("utf-8", "replace")
        calls = cursor.number("the count of calls")
        values = np.frombuffer(cursor.take(4 * cursor.number("the count of columns"), "sums"), "<f4")
        if calls < 1 or len(values) == 0 or name in importance.sums:
            raise BadFormatError(f"{path}: entry {name[:80]!r}: expected one entry with calls and columns")
        importance.sums[name] = values.astype(np.float32)[None]
        importance.counts[name] = np.array([calls], np.float32)
    if not cursor.ended:
        importance.chunks = max(cursor.number("the count of calls"), 0)
        text = cursor.take(cursor.number("the size of a name"), "the name of the text")
        importance.datasets = [text.decode("utf-8", "replace")]
    return importance
