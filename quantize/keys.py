"""The keys of a GGUF file, each in the file's encoding: a key that is only copied keeps every byte.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

import numpy as np

from binhdan.runtime.errors import BadFormatError

Value = int | float | bool | str | bytes | list[int] | list[float] | list[bool] | list[str]


class ValueType(IntEnum):
    """The types of values, with the numbers of GGUF."""

    UINT8 = 0
    INT8 = 1
    UINT16 = 2
    INT16 = 3
    UINT32 = 4
    INT32 = 5
    FLOAT32 = 6
    BOOL = 7
    STRING = 8
    ARRAY = 9
    UINT64 = 10
    INT64 = 11
    FLOAT64 = 12


_DTYPES: Final[dict[ValueType, np.dtype[Any]]] = {
    ValueType.UINT8: np.dtype("u1"),
    ValueType.INT8: np.dtype("i1"),
    ValueType.UINT16: np.dtype("<u2"),
    ValueType.INT16: np.dtype("<i2"),
    ValueType.UINT32: np.dtype("<u4"),
    ValueType.INT32: np.dtype("<i4"),
    ValueType.FLOAT32: np.dtype("<f4"),
    ValueType.BOOL: np.dtype("?"),
    ValueType.UINT64: np.dtype("<u8"),
    ValueType.INT64: np.dtype("<i8"),
    ValueType.FLOAT64: np.dtype("<f8"),
}
# The types of Python values without a stated type, in a scalar and in an array.
_SCALARS: Final = {bool: ValueType.BOOL, int: ValueType.UINT32, float: ValueType.FLOAT32}
_ITEMS: Final = {bool: ValueType.BOOL, int: ValueType.INT32, float: ValueType.FLOAT32, str: ValueType.STRING}


@dataclass(frozen=True)
class RawValue:
    """A value in the encoding of a file: its type, and its bytes after the type."""

    type: ValueType
    raw: bytes

    @staticmethod
    def of(value: Value, like: RawValue | None = None) -> RawValue:
        """Encodes a value with the types of ``like``.

        Without it, an int becomes UINT32, a float FLOAT32, bytes an array of UINT8, and the items of a list
        INT32, FLOAT32, BOOL or STRING.
        """
        if isinstance(value, str):
            return RawValue(ValueType.STRING, _string(value))
        if isinstance(value, bytes):
            return RawValue(ValueType.ARRAY, _array_start(ValueType.UINT8, len(value)) + value)
        if isinstance(value, list):
            item_type = like.item_type if like else _ITEMS[type(value[0])]
            if item_type is ValueType.STRING:
                items = b"".join(_string(str(text)) for text in value)
            else:
                items = np.array(value, _DTYPES[item_type]).tobytes()
            return RawValue(ValueType.ARRAY, _array_start(item_type, len(value)) + items)
        scalar = like.type if like else _SCALARS[type(value)]
        return RawValue(scalar, np.array(value, _DTYPES[scalar]).tobytes())

    @property
    def item_type(self) -> ValueType:
        """The type of the items of an array; the type of another value."""
        if self.type is not ValueType.ARRAY:
            return self.type
        return ValueType(int.from_bytes(self.raw[:4], "little"))

    @property
    def count(self) -> int:
        """The number of items of an array; 1 for another value."""
        return int.from_bytes(self.raw[4:12], "little") if self.type is ValueType.ARRAY else 1

    @property
    def value(self) -> Value:
        """The decoded value. Bytes that are not UTF-8 become surrogates, which `of` encodes again."""
        if self.type is ValueType.STRING:
            return _text(self.raw[8:])
        if self.type is not ValueType.ARRAY:
            scalar: int | float | bool = np.frombuffer(self.raw, _DTYPES[self.type])[0].item()
            return scalar
        if self.item_type is not ValueType.STRING:
            items: list[int] = np.frombuffer(self.raw, _DTYPES[self.item_type], offset=12).tolist()
            return items
        texts, at = [], 12
        for _ in range(self.count):
            end = at + 8 + int.from_bytes(self.raw[at : at + 8], "little")
            texts.append(_text(self.raw[at + 8 : end]))
            at = end
        return texts


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _string(text: str) -> bytes:
    raw = text.encode("utf-8", "surrogateescape")
    return struct.pack("<Q", len(raw)) + raw


def _array_start(item_type: ValueType, count: int) -> bytes:
    return struct.pack("<IQ", item_type, count)


class Cursor:
    """Reads the header of a GGUF file. Every byte may be hostile: each read is checked against the end."""

    def __init__(self, data: bytes | mmap.mmap, name: str) -> None:
        self._data = memoryview(data)
        self._name = name  # of the file, for errors
        self.at = 0

    def close(self) -> None:
        """Releases the data."""
        self._data.release()

    def take(self, size: int, what: str) -> bytes:
        """Returns the next bytes. Raises BadFormatError at the end of the file."""
        left = len(self._data) - self.at
        if size > left:
            raise self.error(f"{what} has {size:,} bytes, the file {left:,} more; is the file truncated?")
        self.at += size
        return bytes(self._data[self.at - size : self.at])

    def number(self, size: int, what: str) -> int:
        """Returns an unsigned integer of ``size`` bytes."""
        return int.from_bytes(self.take(size, what), "little")

    def text(self, what: str) -> str:
        """Returns a name. Raises BadFormatError if it is empty, too long or not UTF-8."""
        size = self.number(8, f"the length of {what}")
        if not 1 <= size <= 65535:
            raise self.error(f"expected 1 to 65,535 bytes for {what}, got {size:,}")
        try:
            return self.take(size, what).decode("utf-8")
        except UnicodeDecodeError:
            raise self.error(f"{what} is not UTF-8") from None

    def key(self, what: str) -> RawValue:
        """Returns the value at the cursor."""
        value_type = self._type(what)
        begin = self.at
        if value_type is ValueType.ARRAY:
            item_type = self._type(what)
            count = self.number(8, what)
            if item_type is ValueType.ARRAY:
                raise self.error(f"{what}: arrays of arrays are not supported")
            if item_type is ValueType.STRING:
                self._skip_strings(count, what)
            else:
                self.take(count * _DTYPES[item_type].itemsize, what)
        elif value_type is ValueType.STRING:
            self.take(self.number(8, what), what)
        else:
            self.take(_DTYPES[value_type].itemsize, what)
        return RawValue(value_type, bytes(self._data[begin : self.at]))

    def _type(self, what: str) -> ValueType:
        number = self.number(4, what)
        if number > max(ValueType):
            raise self.error(f"{what}: expected a value type of 0 to {max(ValueType)}, got {number}")
        return ValueType(number)

    def _skip_strings(self, count: int, what: str) -> None:
        left = len(self._data) - self.at
        if count > left // 8:
            raise self.error(
                f"{what}: {count:,} strings do not fit in {left:,} bytes; is the file truncated?"
            )
        length, data, at, end = struct.Struct("<Q").unpack_from, self._data, self.at, len(self._data)
        for _ in range(count):
            if end - at < 8:
                raise self.error(f"{what}: the file ends inside the array; is it truncated?")
            at += 8 + length(data, at)[0]
        if at > end:
            raise self.error(f"{what}: the file ends inside the array; is it truncated?")
        self.at = at

    def error(self, message: str) -> BadFormatError:
        return BadFormatError(f"{self._name}: byte {self.at:,}: {message}")
