"""Reads a GGUF file, whole or split, of any architecture. Every byte of it may be hostile."""

from __future__ import annotations

import math
import mmap
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np

from binhdan import _native
from binhdan.quantize.checkpoint import check_content
from binhdan.quantize.draft import Draft, DraftTensor, Floats
from binhdan.quantize.keys import Cursor, RawValue
from binhdan.quantize.tensor_types import BLOCKS, DECODED, TYPE_NAMES, tensor_bytes
from binhdan.runtime.errors import BadFormatError

_MAGIC: Final = b"GGUF"
_MAX_ALIGNMENT: Final = 1 << 20
_MAX_DIMENSIONS: Final = 4
_MAX_PARTS: Final = 1 << 10
_SPLIT_NAME: Final = re.compile(r"(?P<prefix>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.DOTALL)
_SPLIT_KEYS: Final = ("split.no", "split.count", "split.tensors.count")


def is_gguf(path: Path) -> bool:
    """Returns whether a file starts as a GGUF file. Raises OSError."""
    with path.open("rb") as file:
        return file.read(4) == _MAGIC


def read_gguf(path: Path) -> Draft:
    """Reads the header of ``path``, and of the other parts of a split model.

    Raises BadFormatError, OSError.
    """
    keys, tensors = read_part(path)
    files = [path]
    count = _split_number(path, keys, "split.count", 1)
    if count > 1:
        for number in range(1, count):
            part = _part_path(path, number, count)
            part_keys, part_tensors = read_part(part)
            if _split_number(part, part_keys, "split.no", -1) != number:
                raise BadFormatError(f"{part}: expected part {number + 1} of {count} (key split.no)")
            tensors += part_tensors
            files.append(part)
        expected = _split_number(path, keys, "split.tensors.count", len(tensors))
        if expected != len(tensors):
            raise BadFormatError(f"{path}: expected {expected:,} tensors, the parts have {len(tensors):,}")
    names = set()
    for tensor in tensors:
        if tensor.name in names:
            raise BadFormatError(f"{path}: tensor {tensor.name!r} occurs twice")
        names.add(tensor.name)
    if not tensors:
        raise BadFormatError(f"{path}: the file has no tensors; expected the weights of a model")
    keys = {name: key for name, key in keys.items() if name not in _SPLIT_KEYS}
    draft = Draft(path, keys, tensors, files=files)
    if not draft.architecture:
        raise BadFormatError(f"{path}: expected a string at the key general.architecture")
    return draft


def _split_number(path: Path, keys: dict[str, RawValue], name: str, default: int) -> int:
    value = keys[name].value if name in keys else default
    if type(value) is not int or not -1 <= value < 1 << 31:
        raise BadFormatError(f"{path}: key {name}: expected a count, got {str(value)[:80]}")
    return value


def _part_path(first: Path, number: int, count: int) -> Path:
    match = _SPLIT_NAME.fullmatch(first.name)
    if not match or int(match["number"]) != 1 or int(match["count"]) != count or count > _MAX_PARTS:
        raise BadFormatError(
            f"{first}: a part of a split model of {count:,} files; expected the first part,"
            f" with a name that ends in -00001-of-{count:05}.gguf"
        )
    return first.with_name(f"{match['prefix']}-{number + 1:05}-of-{count:05}.gguf")


# ---- one file ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Info:
    """A tensor in the header. ``offset`` counts from the start of the data."""

    name: str
    shape: tuple[int, ...]
    type: str
    offset: int


def read_part(path: Path) -> tuple[dict[str, RawValue], list[DraftTensor]]:
    """Reads the header of one file. Raises BadFormatError, OSError."""
    # Readers of the tensors keep the file open: replacing its name meanwhile has no effect on them.
    file = path.open("rb", buffering=0)
    start = file.read(64)
    check_content(path, start)
    if start[:4] != _MAGIC:
        raise BadFormatError(f"{path}: not a GGUF file: expected it to start with 'GGUF'")
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        cursor = Cursor(data, str(path))
        try:
            keys, infos, data_start = _read_header(cursor)
        finally:
            cursor.close()
        size = len(data)
    data_file = _DataFile(path, file)
    tensors = []
    for info in infos:
        begin, length = data_start + info.offset, tensor_bytes(info.type, info.shape)
        if begin + length > size:
            raise BadFormatError(
                f"{path}: tensor {info.name!r}: {length:,} bytes from byte {begin:,} on exceed the file of"
                f" {size:,}; is the file truncated?"
            )
        source = _Source(data_file, info, begin)
        tensors.append(DraftTensor(info.name, info.shape, info.type, source.read, source.read_raw))
    return keys, tensors


def _read_header(cursor: Cursor) -> tuple[dict[str, RawValue], list[_Info], int]:
    cursor.take(4, "the magic number")
    version = cursor.number(4, "the version")
    if version not in (2, 3):
        hint = " (big-endian)" if version and not version & 0xFFFF else ""
        raise cursor.error(f"expected GGUF version 2 or 3, got {version}{hint}")
    tensor_count, key_count = cursor.number(8, "the count of tensors"), cursor.number(8, "the count of keys")
    keys: dict[str, RawValue] = {}
    for _ in range(key_count):  # the cursor fails at the end of the file
        name = cursor.text("a key's name")
        if name in keys:
            raise cursor.error(f"the key {name!r} occurs twice")
        keys[name] = cursor.key(f"key {name!r}")
    alignment = keys["general.alignment"].value if "general.alignment" in keys else 32
    if type(alignment) is not int or not 8 <= alignment <= _MAX_ALIGNMENT or alignment & (alignment - 1):
        raise cursor.error(f"general.alignment: expected a power of two from 8 on, got {str(alignment)[:80]}")
    infos = [_read_info(cursor, alignment) for _ in range(tensor_count)]
    return keys, infos, -(-cursor.at // alignment) * alignment


def _read_info(cursor: Cursor, alignment: int) -> _Info:
    name = cursor.text("a tensor's name")
    dimensions = cursor.number(4, "the number of dimensions")
    if not 1 <= dimensions <= _MAX_DIMENSIONS:
        raise cursor.error(f"tensor {name!r}: expected 1 to {_MAX_DIMENSIONS} dimensions, got {dimensions:,}")
    shape = tuple(cursor.number(8, "a dimension") for _ in range(dimensions))[::-1]
    if 0 in shape or math.prod(shape) >= 1 << 48:
        raise cursor.error(f"tensor {name!r}: expected 1 to 2^48 values, got shape {list(shape)}")
    number = cursor.number(4, "the type")
    if number not in TYPE_NAMES:
        raise cursor.error(f"tensor {name!r}: the type {number} is not known to this version of binhdan")
    tensor_type, offset = TYPE_NAMES[number], cursor.number(8, "the offset")
    if shape[-1] % BLOCKS[tensor_type][0]:
        raise cursor.error(
            f"tensor {name!r}: a row of {shape[-1]:,} values does not fill blocks of {tensor_type}"
        )
    if offset % alignment:
        raise cursor.error(f"tensor {name!r}: the offset {offset:,} is not a multiple of {alignment}")
    return _Info(name, shape, tensor_type, offset)


class _DataFile:
    """An open file. Reads are copies, not a map: a file truncated meanwhile is an error, not a signal."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self._file = file
        self._lock = threading.Lock()

    def read(self, begin: int, size: int) -> bytes:
        with self._lock:
            self._file.seek(begin)
            parts, left = [], size
            while left:
                part = self._file.read(left)
                if not part:
                    raise BadFormatError(f"{self.path}: the file was truncated during the read")
                parts.append(part)
                left -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


class _Source:
    """Reads rows of one tensor. Raises BadFormatError for inf or NaN."""

    def __init__(self, file: _DataFile, info: _Info, begin: int) -> None:
        self._file, self._info, self._begin = file, info, begin
        self._row_bytes = tensor_bytes(info.type, info.shape[-1:])

    def read(self, begin: int, end: int) -> Floats:
        return self._decode(self._read_bytes(begin, end), end - begin)

    def read_raw(self, begin: int, end: int) -> bytes:
        raw = self._read_bytes(begin, end)
        if self._info.type in DECODED:
            self._decode(raw, end - begin)
        return raw

    def _read_bytes(self, begin: int, end: int) -> bytes:
        return self._file.read(self._begin + begin * self._row_bytes, (end - begin) * self._row_bytes)

    def _decode(self, raw: bytes, rows: int) -> Floats:
        values = np.asarray(_native.decode(self._info.type, raw, rows * self._info.shape[-1]))
        if not np.isfinite(values).all():
            raise BadFormatError(f"{self._file.path}: tensor {self._info.name} contains inf or NaN")
        return values.reshape(rows, -1)
