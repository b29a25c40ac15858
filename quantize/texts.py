"""Texts for calibration and evaluation: checked files, and a model's tokens of them in windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from binhdan.runtime.client.model import find_model
from binhdan.runtime.errors import BadFormatError
from binhdan.runtime.ffi import library
from binhdan.runtime.options import LoadOptions
from binhdan.runtime.results import ModelInfo

CONTEXT: Final = 512  # tokens of a window, as in llama.cpp's tools
_MAX_TEXT: Final = 1 << 30  # bytes


def read_text(path: Path) -> str:
    """The content of a text file. Raises BadFormatError if it is not text in UTF-8 or empty, OSError."""
    size = path.stat().st_size
    if size > _MAX_TEXT:
        raise BadFormatError(f"{path}: expected a text of at most {_MAX_TEXT:,} bytes, got {size:,}")
    data = path.read_bytes()
    if (at := data.find(b"\0")) >= 0:
        raise BadFormatError(
            f"{path}: expected text in UTF-8, got a NUL byte at byte {at:,}; is it a text file?"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte = data[error.start]
        raise BadFormatError(
            f"{path}: expected text in UTF-8, got the byte 0x{byte:02x} at byte {error.start:,};"
            " convert the file to UTF-8"
        ) from error
    if not text.strip():
        raise BadFormatError(f"{path}: expected text, got an empty file")
    return text


@dataclass(frozen=True)
class OpenModel:
    """A model of the core without an engine. ``prefix`` and ``suffix``: the control tokens around a text."""

    path: Path
    handle: int
    info: ModelInfo
    prefix: list[int]
    suffix: list[int]

    def tokenize(self, text: str, *, add_special: bool = False) -> list[int]:
        return library().tokenize(self.handle, text.encode(), add_special=add_special)

    def text_of(self, tokens: Sequence[int]) -> bytes:
        return library().detokenize(self.handle, tokens)

    @property
    def generates(self) -> bool:
        """False for an encoder, which has no next token."""
        return self.info.causal


@contextmanager
def open_model(path: Path) -> Iterator[OpenModel]:
    """Opens a GGUF file without an engine. Raises BinhdanError."""
    lib = library()
    handle = lib.open_model(str(find_model(path)), LoadOptions())
    try:
        plain = lib.tokenize(handle, b"a")
        special = lib.tokenize(handle, b"a", add_special=True)
        prefix = special[: _find(special, plain)]
        info = lib.describe_model(handle)
        yield OpenModel(path, handle, info, prefix, special[len(prefix) + len(plain) :])
    finally:
        lib.close_model(handle)


def _find(tokens: list[int], part: list[int]) -> int:
    """Where ``part`` begins in ``tokens``."""
    return next(i for i in range(len(tokens)) if tokens[i : i + len(part)] == part)


def make_windows(model: OpenModel, text: str, context: int = CONTEXT) -> list[list[int]]:
    """The tokens of ``text`` in windows of ``context`` tokens; the last window may be shorter.

    As in llama.cpp's tools, the text is tokenized as a whole, and the start token replaces the first token of
    a window. In a window of an encoder, the end token replaces the last one.
    """
    tokens = model.tokenize(text, add_special=True)
    context = min(context, model.info.context)
    windows = [tokens[begin : begin + context] for begin in range(0, len(tokens), context)]
    for window in windows:
        window[: len(model.prefix)] = model.prefix
        if model.suffix and not model.generates and len(window) > len(model.suffix):
            window[-len(model.suffix) :] = model.suffix
    return windows
