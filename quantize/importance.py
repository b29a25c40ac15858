"""Importance files: how large the inputs of each weight matrix are, per column.

The format is llama.cpp's imatrix, as a GGUF file or as the older ``.dat`` file. For a tensor NAME the GGUF file
has ``NAME.in_sum2``, the sums of the squares of each input column, (matrices, columns), and ``NAME.counts``,
the rows that were added, (matrices, 1). A tensor has several matrices if the model has experts.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from gguf import GGUFReader, GGUFWriter

from binhdan.quantize.convert import atomic_write
from binhdan.runtime.errors import BadFormatError
from binhdan.runtime.ffi import library

Floats = npt.NDArray[np.float32]

_SUMS: Final = ".in_sum2"
_COUNTS: Final = ".counts"
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
    with atomic_write(path) as temporary:
        writer = GGUFWriter(temporary, "")
        try:
            writer.kv_data[0].clear()  # general.architecture: this is not a model
            writer.add_type("imatrix")
            writer.add_array("imatrix.datasets", importance.datasets)
            writer.add_uint32("imatrix.chunk_count", importance.chunks)
            writer.add_uint32("imatrix.chunk_size", importance.chunk_size)
            for name, sums in sorted(importance.sums.items()):
                writer.add_tensor(name + _SUMS, np.ascontiguousarray(sums, np.float32))
                counts = np.ascontiguousarray(importance.counts[name], np.float32)
                writer.add_tensor(name + _COUNTS, counts[:, None])
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()


# ---- GGUF --------------------------------------------------------------------------------------------------


def _read_gguf(path: Path) -> Importance:
    library().inspect(str(path))  # checks every byte of the header; gguf-py trusts it
    try:
        reader = GGUFReader(path)
        keys = {name: field.contents() for name, field in reader.fields.items()}
        tensors = {tensor.name: tensor.data for tensor in reader.tensors}
    except OSError:
        raise
    except Exception as error:  # of any kind
        raise BadFormatError(f"{path}: expected an importance file in GGUF, got {error}") from error
    if not any(name.endswith(_SUMS) for name in tensors):
        raise BadFormatError(
            f"{path}: expected an importance file with tensors that end in {_SUMS}, got a GGUF file without them;"
            " is it a model?"
        )
    importance = Importance(
        datasets=_strings(path, keys),
        chunks=_count(path, keys, "imatrix.chunk_count"),
        chunk_size=_count(path, keys, "imatrix.chunk_size"),
    )
    for tensor, values in tensors.items():
        if not tensor.endswith(_SUMS):
            continue
        name = tensor.removesuffix(_SUMS)
        counts = tensors.get(name + _COUNTS)
        if counts is None:
            raise BadFormatError(f"{path}: tensor {name + _COUNTS!r} is missing; {tensor!r} needs it")
        for part in (values, counts):
            if part.dtype != np.float32:
                raise BadFormatError(f"{path}: tensor {tensor!r}: expected sums and counts of the type F32")
        columns = values.shape[-1]
        sums = np.array(values, np.float32).reshape(-1, columns)
        if counts.size != len(sums):
            raise BadFormatError(
                f"{path}: tensor {name + _COUNTS!r}: expected {len(sums):,} counts, one for each matrix,"
                f" got {counts.size:,}"
            )
        importance.sums[name] = sums
        importance.counts[name] = np.array(counts, np.float32).reshape(-1)
    return importance


def _count(path: Path, keys: dict[str, Any], name: str) -> int:
    value = keys.get(name, 0)
    if not isinstance(value, int) or value < 0:
        raise BadFormatError(f"{path}: key {name!r}: expected a count, got {str(value)[:80]}")
    return value


def _strings(path: Path, keys: dict[str, Any]) -> list[str]:
    value = keys.get("imatrix.datasets", [])
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise BadFormatError(f"{path}: key 'imatrix.datasets': expected strings, got {str(value)[:80]}")
    return value


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
