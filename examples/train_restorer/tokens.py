"""Text -> ids of syllables. csrc/text/restore/tokens.cpp splits text in the same way."""

from __future__ import annotations

import json
import lzma
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train_restorer.syllables import parse, strip_marks

# Ids below FIRST_FORM: the end of a sentence, a word that is no syllable, one with a digit, other characters.
END, OTHER, NUMBER, MARK, FIRST_FORM = 0, 1, 2, 3, 4
_TOKEN = re.compile(r"[^\W_]+|[.!?…\n]+|[^\w\s]|_+")


@dataclass
class Corpus:
    """ids: one per token. weights: of each token's register. capital: only its first letter is a capital."""

    ids: NDArray[np.int64]
    weights: NDArray[np.float32]
    capital: NDArray[np.bool_]
    forms: list[tuple[str, int]]
    registers: dict[str, int]  # register -> number of tokens
    documents: NDArray[np.int32]  # the number of each token's document


@dataclass
class _Reader:
    forms: dict[tuple[str, int], int] = field(default_factory=dict)
    known: dict[str, int] = field(default_factory=dict)

    def of(self, word: str) -> int:
        """2 * id + capital."""
        if (found := self.known.get(word)) is None:
            found = self.known[word] = 2 * self._id(word) + (word[0].isupper() and not word[1:].isupper())
        return found

    def _id(self, word: str) -> int:
        if any(map(str.isdigit, word)):
            return NUMBER
        if not word[0].isalpha():
            return END if word[0] in ".!?…\n" else MARK
        form = parse(word.lower())
        if form is None:
            return OTHER
        return self.forms.setdefault(form, FIRST_FORM + len(self.forms))


def documents(path: Path) -> Iterator[dict[str, Any]]:
    open_text = lzma.open if path.suffix == ".xz" else open
    with open_text(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def read(paths: Iterable[Path], weights: dict[str, float]) -> Corpus:
    """Reads documents {"text", "register" or "source"}. weights: of registers; the others have 1."""
    reader, ids, counts, numbers, registers = _Reader(), [], [], [], {}
    for path in paths:
        for document in documents(path):
            words = _TOKEN.findall(unicodedata.normalize("NFC", document["text"]))
            ids.append(np.array([*map(reader.of, words), 2 * END], np.int64))
            register = document.get("register", document["source"])
            counts.append(np.full(len(ids[-1]), weights.get(register, 1.0), np.float32))
            numbers.append(np.full(len(ids[-1]), len(numbers), np.int32))
            registers[register] = registers.get(register, 0) + len(words)
    codes, each = np.concatenate(ids), np.concatenate(counts)
    codes, each = np.concatenate([[2 * END], codes]), np.concatenate([[1.0], each]).astype(np.float32)
    repeated = np.concatenate([[False], (codes[1:] // 2 == END) & (codes[:-1] // 2 == END)])
    owners = np.concatenate([[0], *numbers]).astype(np.int32)
    codes, each, owners = codes[~repeated], each[~repeated], owners[~repeated]
    return Corpus(codes // 2, each, codes % 2 == 1, list(reader.forms), registers, owners)


def bare_ids(forms: list[tuple[str, int]]) -> NDArray[np.int64]:
    """Of each id the first id with the same bare letters."""
    first: dict[str, int] = {}
    found = [first.setdefault(strip_marks(letters), FIRST_FORM + i) for i, (letters, _) in enumerate(forms)]
    return np.array([*range(FIRST_FORM), *found], np.int64)


def drop_rare(corpus: Corpus, min_count: int) -> Corpus:
    """Forms with fewer occurrences become OTHER. The rest is sorted by bare letters, then by frequency."""
    counts = np.bincount(corpus.ids, minlength=FIRST_FORM + len(corpus.forms))
    kept = [i for i in range(len(corpus.forms)) if counts[FIRST_FORM + i] >= min_count]
    kept.sort(key=lambda i: (strip_marks(corpus.forms[i][0]), -counts[FIRST_FORM + i], corpus.forms[i]))
    renumber = np.full(len(counts), OTHER, np.int64)
    renumber[:FIRST_FORM] = range(FIRST_FORM)
    renumber[[FIRST_FORM + i for i in kept]] = np.arange(FIRST_FORM, FIRST_FORM + len(kept))
    forms = [corpus.forms[i] for i in kept]
    return replace(corpus, ids=renumber[corpus.ids], forms=forms)
