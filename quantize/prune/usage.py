"""Which tokens texts use: the frequency lists and whole texts, encoded by the model's own tokenizer."""

from __future__ import annotations

import tempfile
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from gguf import GGUFWriter

from binhdan import _native
from binhdan.quantize.prune.lists import FrequencyList

# What the tokenizer reads; the name decides about the white space of Phi-3.
_READ: Final = ("tokenizer.", "binhdan.tokenizer.", "general.name")


@contextmanager
def tokenizer_of(keys: Mapping[str, Any], *, plain: bool = False) -> Iterator[_native.Tokenizer]:
    """The tokenizer of a file with these keys. ``plain``: it adds and removes no space around a text."""
    changed = {"tokenizer.ggml.add_space_prefix": False, "tokenizer.ggml.remove_extra_whitespaces": False}
    with tempfile.TemporaryDirectory(prefix="binhdan-") as folder:
        path = Path(folder) / "tokenizer.gguf"
        writer = GGUFWriter(path, "llama")
        for key, value in ({**keys, **changed} if plain else keys).items():
            if key.startswith(_READ):
                _add_key(writer, key, value)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
        yield _native.Tokenizer(str(path))


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


def _add_key(writer: GGUFWriter, key: str, value: Any) -> None:
    if key.endswith(".precompiled_charsmap"):
        value = bytes(byte & 0xFF for byte in value)  # of u8 or i8
    match value:
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_uint32(key, value)
        case float():
            writer.add_float32(key, value)
        case str():
            writer.add_string(key, value)
        case list() | bytes():
            if len(value):
                writer.add_array(key, value)
