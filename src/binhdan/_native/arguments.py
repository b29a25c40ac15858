"""The core's functions by cffi, and the conversion of arguments and results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import cffi
import numpy as np
import numpy.typing as npt

from binhdan.runtime.errors import OutOfMemoryError
from binhdan.runtime.ffi import declarations, library
from binhdan.runtime.files import package_file

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Bytes = bytes | bytearray | memoryview | Array  # contiguous

NOT_FOUND, _OUT_OF_MEMORY, TOO_SMALL = 3, 7, 12  # of binhdan_status


def _open() -> tuple[Any, Any]:
    path = library().path
    ffi = cffi.FFI()
    for name in ("binhdan.h", "binhdan_tools.h"):
        header = package_file(f"include/{name}")
        if header is None:
            raise ImportError(f"found no include/{name} in the package binhdan; install it again")
        ffi.cdef(declarations(header.read_text(encoding="utf-8")))
    return ffi, ffi.dlopen(str(path))


ffi, lib = _open()


def check(status: int) -> None:
    if status:
        message = string(lib.binhdan_last_error())
        raise OutOfMemoryError(message) if status == _OUT_OF_MEMORY else ValueError(message)


def string(c_string: Any) -> str:
    return bytes(ffi.string(c_string)).decode("utf-8", "replace")


def c_string(text: str) -> Any:
    if "\0" in text:
        raise ValueError(f"expected a string without NUL characters, got {text!r}")
    return ffi.new("char[]", text.encode("utf-8", "surrogateescape"))


def floats(values: Array) -> Floats:
    return np.ascontiguousarray(values, dtype=np.float32)


def tokens_of(values: Array | Sequence[int]) -> npt.NDArray[np.int32]:
    tokens = np.ascontiguousarray(values, dtype=np.int32)
    if tokens.ndim != 1 or tokens.size == 0:
        raise ValueError(
            "tokens: expected one axis and at least one token, "
            f"got {tokens.ndim} axes and {tokens.size} tokens"
        )
    return tokens


def pointer(array: Array | None, kind: str = "float") -> Any:
    """The data of a contiguous array, which must stay alive during the call. None is NULL."""
    if array is None:
        return ffi.NULL
    return ffi.cast(f"{kind} *", ffi.from_buffer(array)) if array.size else ffi.NULL


def bytes_of(what: str, data: Any) -> tuple[Any, int]:
    view = memoryview(data)
    if not view.c_contiguous:
        raise ValueError(f"{what}: expected contiguous bytes")
    return (ffi.from_buffer(view), view.nbytes) if view.nbytes else (ffi.NULL, 0)


def expect_axes(array: Array, what: str, axes: int) -> None:
    if array.ndim != axes:
        raise ValueError(f"{what}: expected {axes} axes, got {array.ndim}")


def expect_size(what: str, expected: int, got: int) -> None:
    if expected != got:
        raise ValueError(f"{what}: expected {expected}, got {got}")


def optional_row(what: str, x: Floats, row: Array | None) -> Floats | None:
    """A row of the size of x, or None."""
    if row is None:
        return None
    expect_size(what, x.size, row.size)
    return floats(row)


def grow(kind: str, first: int, function: Any, *arguments: Any) -> Any:
    """The result of a function that ends with (buffer, capacity, size), as a cffi buffer."""
    size = ffi.new("size_t *")
    capacity = first
    while True:
        out = ffi.new(f"{kind}[]", max(capacity, 1))
        status = function(*arguments, out, capacity, size)
        if status != TOO_SMALL:
            check(status)
            return ffi.unpack(out, size[0])
        capacity = int(size[0])


def listed(function: Any, *arguments: Any) -> Iterator[str]:
    """Names by index, until the function reports NOT_FOUND."""
    name = ffi.new("char **")
    index = 0
    while (status := function(*arguments, index, name)) != NOT_FOUND:
        check(status)
        yield string(name[0])
        index += 1
