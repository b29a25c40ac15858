"""The opened library, and conversions between C and Python values."""

from __future__ import annotations

import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from binhdan.runtime.errors import InvalidArgumentError, from_status


class Binding:
    """The opened libbinhdan. Handles are plain integers; binhdan.h states the contract of each function."""

    def __init__(self, header: Path, binary: Path) -> None:
        import cffi

        self.path = binary
        self._ffi: Any = cffi.FFI()
        self._ffi.cdef(declarations(header.read_text(encoding="utf-8")))
        self._lib: Any = self._ffi.dlopen(str(binary))

    def _names(self, enum: str, prefix: str) -> dict[int, Any]:
        """The enumerators of a C enum: value -> name in lower case without `prefix`."""
        elements: dict[int, str] = self._ffi.typeof(enum).elements
        return {value: name.removeprefix(prefix).lower() for value, name in elements.items()}

    def _value(self, name: str) -> int:
        """The value of the enumerator BINHDAN_`name`."""
        return int(getattr(self._lib, f"BINHDAN_{name}"))

    def _flags(self, **chosen: bool) -> int:
        """The union of the flags whose argument is true; names without BINHDAN_."""
        return sum(self._value(name) for name, wanted in chosen.items() if wanted)

    def _check(self, status: int) -> None:
        if status:
            raise from_status(status, self._string(self._lib.binhdan_last_error()))

    def _struct(self, name: str, **values: Any) -> Any:
        struct = self._ffi.new(f"{name} *")
        struct.struct_size = self._ffi.sizeof(name)
        for key, value in values.items():
            setattr(struct, key, value)
        return struct

    def _fields(self, struct: Any) -> dict[str, int]:
        """The numbers in a struct, by name, without struct_size."""
        names = [name for name, _ in self._ffi.typeof(struct).item.fields]
        return {name: int(getattr(struct, name)) for name in names if name != "struct_size"}

    def _read_tokens(self, capacity: int, function: Any, *arguments: Any) -> list[int]:
        return list(self._ffi.unpack(*self._read("int32_t", capacity, function, *arguments)))

    def _read_text(self, function: Any, *arguments: Any, first: int = 4096) -> bytes:
        return bytes(self._ffi.buffer(*self._read("char", first, function, *arguments)))

    def _read(self, kind: str, capacity: int, function: Any, *arguments: Any) -> tuple[Any, int]:
        """An array that `function` has filled, and how many of its elements."""
        size = self._ffi.new("size_t *")
        while True:
            values = self._ffi.new(f"{kind}[]", capacity)
            status = function(*arguments, values, capacity, size)
            if status != self._lib.BINHDAN_TOO_SMALL:
                self._check(status)
                return values, int(size[0])
            capacity = int(size[0]) + 1  # texts end with a NUL

    def _int32s(self, values: Sequence[int]) -> Any:
        try:
            return self._ffi.from_buffer("int32_t[]", array.array("i", values))
        except OverflowError:
            raise InvalidArgumentError("expected tokens that fit a signed 32-bit integer") from None

    def _c_string(self, text: str) -> Any:
        if "\0" in text:
            raise InvalidArgumentError(f"expected a string without NUL characters, got {text!r}")
        return self._ffi.new("char[]", text.encode("utf-8", "surrogateescape"))

    def _string(self, c_string: Any) -> str:
        return bytes(self._ffi.string(c_string)).decode("utf-8", "replace")


def declarations(header: str) -> str:
    """The part of a header of the library between its cffi marks, in the form that cffi parses."""
    _, _, after = header.partition("cffi-begin")
    region = after.partition("*/")[2].partition("/* cffi-end")[0]
    return region.replace("BINHDAN_API ", "")
