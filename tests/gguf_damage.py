"""Opens damaged files through the C ABI and checks the errors."""

from __future__ import annotations

import json
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from api.abi import ffi, last_error, lib

# The valid errors for a damaged file. Anything else (INTERNAL, OUT_OF_MEMORY, a crash) is a bug.
REJECTIONS = {lib.BINHDAN_BAD_FORMAT, lib.BINHDAN_UNSUPPORTED, lib.BINHDAN_INVALID_ARGUMENT}


def inspect(path: Path) -> dict[str, Any] | None:
    """Returns the description of a file, or None if it was rejected with a valid error."""
    size = ffi.new("size_t *")
    status = lib.binhdan_inspect(str(path).encode(), ffi.NULL, 0, size)
    if status != lib.BINHDAN_TOO_SMALL:
        check_rejection(status)
        return None
    text = ffi.new("char[]", size[0])
    assert lib.binhdan_inspect(str(path).encode(), text, size[0], size) == lib.BINHDAN_OK, last_error()
    described: dict[str, Any] = json.loads(bytes(ffi.buffer(text, size[0])))
    return described


def open_and_close(path: Path) -> bool:
    """Returns whether the model opened; if not, checks the error."""
    model = ffi.new("binhdan_model *")
    status = lib.binhdan_model_open(str(path).encode(), ffi.NULL, model)
    if status == lib.BINHDAN_OK:
        assert lib.binhdan_model_close(model[0]) == lib.BINHDAN_OK
        return True
    check_rejection(status)
    return False


def check_rejection(status: int) -> None:
    message = last_error()
    assert status in REJECTIONS, (status, message)
    controls = [character for character in message if unicodedata.category(character) == "Cc"]
    assert message and not controls and len(message) < 2000, message


@dataclass
class Patched:
    """A file whose bytes a test changes and restores."""

    path: Path
    whole: bytes

    def write(self, offset: int, data: bytes) -> None:
        with self.path.open("r+b") as file:
            file.seek(offset)
            file.write(data)

    def restore(self, offset: int, size: int) -> None:
        self.write(offset, self.whole[offset : offset + size])
