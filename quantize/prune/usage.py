"""Which tokens texts use: the frequency lists and whole texts, encoded by the model's own tokenizer."""

from __future__ import annotations

import tempfile
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from binhdan import _native
from binhdan.quantize.draft import Draft
from binhdan.quantize.gguf_file import lay_out
from binhdan.quantize.keys import RawValue
from binhdan.quantize.prune.lists import FrequencyList

# What the tokenizer reads; the name decides about the white space of Phi-3.
_READ: Final = ("tokenizer.", "binhdan.tokenizer.", "general.name")


@contextmanager
def tokenizer_of(keys: Mapping[str, Any], *, plain: bool = False) -> Iterator[_native.Tokenizer]:
    """The tokenizer of a file with these keys. ``plain``: it adds and removes no space around a text."""
    changed = {"tokenizer.ggml.add_space_prefix": False, "tokenizer.ggml.remove_extra_whitespaces": False}
    read = {key: value for key, value in keys.items() if key.startswith(_READ) and value != []}
    encoded = {key: _encode(key, value) for key, value in (read | changed if plain else read).items()}
    with tempfile.TemporaryDirectory(prefix="binhdan-") as folder:
        path = Path(folder) / "tokenizer.gguf"
        path.write_bytes(lay_out(Draft(path, encoded, []), {}).header)
        yield _native.Tokenizer(str(path))


def _encode(key: str, value: Any) -> RawValue:
    if key.endswith(".precompiled_charsmap"):
        return RawValue.of(bytes(byte & 0xFF for byte in value))  # an array of u8 or i8
    return RawValue.of(value)


def used_by_list(tokenizer: _native.Tokenizer, frequency: FrequencyList) -> set[int]:
    """The tokens of all words and separators of a list, in each context, and of their characters."""
    used: set[int] = set()
    for unit in frequency.words:
        used.update(tokenizer.encode(unit))
        if not unit[0].isalnum() and unit[0] != " ":  # it may be a token by itself
            used.update(tokenizer.encode(unit[1:]))
    for unit in frequency.separators:
        used.update(tokenizer.encode(f"a{unit}a"))
        used.update(tokenizer.encode(unit))
    for character in {character for unit, _ in frequency.units() for character in unit}:
        used.update(tokenizer.encode(character))
    return used


def used_by_text(tokenizer: _native.Tokenizer, text: bytes) -> set[int]:
    """The tokens of a text with its markers, as it is and in NFC, to which the runtime normalizes."""
    normalized = unicodedata.normalize("NFC", text.decode("utf-8", "replace")).encode()
    return {*tokenizer.encode(text, True), *tokenizer.encode(normalized, True)}
