"""binhdan_restore… through the C ABI: handles, buffers, options."""

from __future__ import annotations

from pathlib import Path

import pytest
from api.abi import ffi, lib

from binhdan.runtime.client import restore

FILE = str(Path(restore.__file__).parents[1] / "assets" / "restore-vi.bin").encode()


@pytest.fixture
def handle() -> int:
    out = ffi.new("binhdan_restorer *")
    assert lib.binhdan_restorer_open(FILE, out) == lib.BINHDAN_OK
    return int(out[0])


def last_error() -> str:
    return bytes(ffi.string(lib.binhdan_last_error())).decode()


def test_the_size_is_reported_before_the_text(handle: int) -> None:
    size = ffi.new("size_t *")
    assert (
        lib.binhdan_restore(handle, b"ha noi", 6, ffi.NULL, ffi.NULL, 0, size) == lib.BINHDAN_TOO_SMALL
        and size[0] == 9
    )
    out = ffi.new("char[]", 9)
    assert lib.binhdan_restore(handle, b"ha noi", 6, ffi.NULL, out, 9, size) == lib.BINHDAN_OK
    assert bytes(ffi.buffer(out, size[0])).decode() == "hà nội"


def test_handles(handle: int) -> None:
    out, size = ffi.new("char[]", 64), ffi.new("size_t *")
    assert lib.binhdan_restorer_close(handle) == lib.BINHDAN_OK
    assert lib.binhdan_restorer_close(handle) == lib.BINHDAN_INVALID_HANDLE
    assert lib.binhdan_restore(handle, b"a", 1, ffi.NULL, out, 64, size) == lib.BINHDAN_INVALID_HANDLE
    assert lib.binhdan_model_close(handle) == lib.BINHDAN_INVALID_HANDLE
    other = ffi.new("binhdan_restorer *")
    assert lib.binhdan_restorer_open(b"/nowhere", other) == lib.BINHDAN_NOT_FOUND
    assert lib.binhdan_restorer_open(FILE, ffi.NULL) == lib.BINHDAN_INVALID_ARGUMENT
    assert lib.binhdan_restorer_open(restore.__file__.encode(), other) == lib.BINHDAN_BAD_FORMAT


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("style", 3, "style: expected BINHDAN_STYLE_KEEP (0) to BINHDAN_STYLE_OLD (2), got 3"),
        ("format", -1, "format: expected BINHDAN_FORMAT_TEXT (0) to BINHDAN_FORMAT_CODE (7), got -1"),
        ("min_confidence", 1.5, "min_confidence: expected 0 to 1, got 1.5"),
    ],
)
def test_options(handle: int, field: str, value: float, message: str) -> None:
    options = ffi.new("binhdan_restore_options *")
    options.struct_size = ffi.sizeof("binhdan_restore_options")
    setattr(options, field, value)
    size = ffi.new("size_t *")
    assert lib.binhdan_restore(handle, b"a", 1, options, ffi.NULL, 0, size) == lib.BINHDAN_INVALID_ARGUMENT
    assert last_error() == message
