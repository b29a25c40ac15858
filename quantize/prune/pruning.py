"""Chooses the tokens to keep, and makes the keys of the smaller vocabulary."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from binhdan import _native
from binhdan.quantize.prune import lists
from binhdan.quantize.prune.closure import with_parts
from binhdan.quantize.prune.keys import prune_keys
from binhdan.quantize.prune.usage import tokenizer_of, used_by_list, used_by_text
from binhdan.quantize.prune.vocabulary import (
    PruneError,
    VocabularyView,
    fillers,
    has_byte_fallback,
    protected,
    view_of,
)
from binhdan.runtime.errors import InvalidArgumentError

# Texts for the check of a pruned vocabulary: invalid UTF-8, emoji, NFD, CJK, long runs, markers.
_HOSTILE: Final = (
    bytes(range(256)),
    "🦙👩\u200d👩\ufffd" * 3,
    unicodedata.normalize("NFD", "Tiếng Việt hoà bình"),
    "漢字かな한국 Ελληνικά русский ภาษาไทย",
    " " * 300 + "\n" * 100 + "\t" * 50 + "a" * 300 + "=" * 200,
    "<|im_end|><end_of_turn></s><0x41>▁ \x00",
)


@dataclass(frozen=True)
class Pruning:
    """The tokens that are kept, ascending, and the keys of the file with only them."""

    vocabulary: VocabularyView
    kept: list[int]
    keys: dict[str, Any]
    notes: list[str]
    fertility: dict[str, tuple[float, float]]  # "vi" → tokens per syllable before and after; see lists.UNITS

    def report(self) -> list[str]:
        """What pruning has changed, for the user."""
        units = [f"{lists.UNITS[name]} ({name}) {a:.3f} → {b:.3f}" for name, (a, b) in self.fertility.items()]
        return [
            f"{len(self.kept):,} of {self.vocabulary.size:,} tokens are kept",
            f"tokens per {', '.join(units)}",
        ]


def plan_pruning(keys: Mapping[str, Any], names: Sequence[str], texts: Sequence[Path] = ()) -> Pruning:
    """Keeps the tokens that the frequency lists ``names`` and the files ``texts`` use, and those that a
    tokenizer needs.

    ``keys``: all keys of a GGUF file. Raises PruneError if the vocabulary cannot be pruned,
    InvalidArgumentError for an unknown list, OSError for a text that cannot be read.
    """
    if not names and not texts:
        raise InvalidArgumentError(
            f"pruning needs a text: name at least one of {', '.join(lists.names())}, or a file",
            param="prune_vocab",
        )
    vocabulary = view_of(keys)
    frequencies = [lists.read_list(name) for name in names]
    with tokenizer_of(keys, plain=True) as plain, tokenizer_of(keys) as tokenizer:
        used = protected(vocabulary)
        for frequency in frequencies:
            used |= used_by_list(plain, frequency)
        for path in texts:
            used |= used_by_text(tokenizer, path.read_bytes())
        for key, value in keys.items():
            if key.startswith("tokenizer.chat_template") and isinstance(value, str):
                used |= used_by_text(tokenizer, value.encode())
        kept = sorted(with_parts(vocabulary, used))
        pruned, notes = prune_keys(
            keys, vocabulary, kept, ", ".join([*names, *(path.name for path in texts)])
        )
        if not has_byte_fallback(vocabulary):
            notes.append(
                "the vocabulary has no token for some bytes, so all tokens of a single character are kept"
            )
        if dropped := sorted(fillers(vocabulary).difference(kept)):
            notes.append(
                f"{len(dropped):,} reserved tokens such as {vocabulary.tokens[dropped[0]]} are dropped; "
                "a text of --keep-text that names some of them keeps those"
            )
        with tokenizer_of(pruned, plain=True) as new_plain:
            units = (unit for frequency in frequencies for unit, _ in frequency.units())
            _check(plain, new_plain, (*_HOSTILE, *units), kept)
            fertility = {
                name: (_fertility(plain, name), _fertility(new_plain, name)) for name in lists.names()
            }
    return Pruning(vocabulary, kept, pruned, notes, fertility)


def _check(
    old: _native.Tokenizer, new: _native.Tokenizer, texts: Iterable[str | bytes], kept: list[int]
) -> None:
    """Raises PruneError unless each text decodes as before, and a text of kept tokens has the same tokens."""
    new_ids = {token: new for new, token in enumerate(kept)}
    for text in texts:
        before, after = old.encode(text), new.encode(text)
        if new.decode(after) != old.decode(before):
            raise PruneError(f"the pruned vocabulary does not spell {text!r}; please report this fault")
        if all(token in new_ids for token in before) and after != [new_ids[token] for token in before]:
            raise PruneError(f"the pruned vocabulary cuts {text!r} in another way; please report this fault")


def _fertility(tokenizer: _native.Tokenizer, name: str) -> float:
    """Tokens per syllable, word or 100 characters of the sample text."""
    text = lists.read_samples()[name]
    return len(tokenizer.encode(text)) / (len(text) / 100 if name == "code" else len(text.split()))
