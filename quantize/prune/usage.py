"""Which tokens texts use: the frequency lists and whole texts, encoded by the model's own tokenizer."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from gguf import GGUFWriter

from binhdan import _native
from binhdan.quantize.prune.lists import FrequencyList

# A token is kept if it is expected at least once in so many tokens of a language. docs/decisions.md has the measurement.
RAREST: Final = 4_000_000


@contextmanager
def tokenizer_of(keys: Mapping[str, Any], *, plain: bool = False) -> Iterator[_native.Tokenizer]:
    """The tokenizer of these keys. ``plain``: it adds and removes no space at the start of a text."""
    changed = {"tokenizer.ggml.add_space_prefix": False, "tokenizer.ggml.remove_extra_whitespaces": False}
    with tempfile.TemporaryDirectory(prefix="binhdan-") as folder:
        path = Path(folder) / "tokenizer.gguf"
        writer = GGUFWriter(path, "llama")
        for key, value in ({**keys, **changed} if plain else keys).items():
            add_tokenizer_key(writer, key, value)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
        yield _native.Tokenizer(str(path))


def token_rates(tokenizer: _native.Tokenizer, frequencies: FrequencyList) -> Counter[int]:
    """Token → its expected count in a text of 10⁹ tokens."""
    counts: Counter[int] = Counter()
    for unit, count in frequencies.words.items():
        counts.update(dict.fromkeys(tokenizer.encode(unit), count))
        if not (unit[0].isalnum() or unit[0] == " "):  # the character before the word may be a token by itself
            counts.update(dict.fromkeys(tokenizer.encode(unit[1:]), count))
    for unit, count in frequencies.separators.items():
        counts.update(dict.fromkeys(tokenizer.encode(f"a{unit}a"), count))
        counts.update(dict.fromkeys(tokenizer.encode(unit), count))
    total = counts.total()
    return Counter({token: round(1e9 * count / total) for token, count in counts.items()})


def add_tokenizer_key(writer: GGUFWriter, key: str, value: Any) -> None:
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
