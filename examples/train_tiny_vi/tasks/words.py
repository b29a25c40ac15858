"""Word segmentation: joins the syllables of a word with "_" ("học_sinh đi học").

We have no segmented text under a free licence. So words are mined: neighbouring syllables with high mutual
information, and sequences of capitalized syllables (names). A dynamic program selects the best words of a
sentence. These labels are less accurate than those of linguists.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from random import Random

from train_tiny_vi.tasks.example import Example, ask
from train_tiny_vi.text import looks_vietnamese, place_tones

PHRASINGS = (
    "Tách từ: {}",
    "tach tu: {}",
    "Tách từ câu sau: {}",
    "Tách câu sau thành từ: {}",
    "Phân đoạn từ tiếng Việt: {}",
    "Hãy tách từ: {}",
)
SPACE_PHRASINGS = (
    "Thêm dấu cách: {}",
    "them dau cach: {}",
    "Tách các chữ bị dính: {}",
    "Câu này bị mất dấu cách, sửa giúp: {}",
    "Viết lại có dấu cách: {}",
)
_PIECE = re.compile(r"[^\W\d_]+|\d+(?:[.,]\d+)*|[^\w\s]|_")


@dataclass(frozen=True)
class Lexicon:
    """Words of two syllables in lower case, with their strength (0 to 1)."""

    strength: dict[str, float]

    @classmethod
    def mine(cls, texts: Iterable[str], fewest: int = 12, weakest: float = 0.45) -> Lexicon:
        """Strength is the normalized pointwise mutual information: 1 is always together, 0 is by chance."""
        one: Counter[str] = Counter()
        two: Counter[tuple[str, str]] = Counter()
        for text in texts:
            for run in re.split(r"[^\w ]|\d|_", text):
                syllables = [s for s in run.split() if s.islower()]
                one.update(syllables)
                two.update(pairwise(syllables))
        total = sum(one.values()) or 1
        strength = {}
        for (a, b), n in two.items():
            if n < fewest or not (looks_vietnamese(a) and looks_vietnamese(b)):
                continue
            npmi = math.log(n * total / (one[a] * one[b])) / -math.log(n / total)
            if npmi >= weakest:
                strength[f"{place_tones(a)} {place_tones(b)}"] = npmi
        return cls(strength)

    def words(self, sentence: str) -> list[str]:
        """Splits a sentence into words, their syllables joined by "_", and punctuation."""
        out: list[str] = []
        run: list[str] = []
        for piece in _PIECE.findall(sentence):
            if piece[0].isalpha():
                run.append(piece)
                continue
            out += self._join(run)
            run = []
            out.append(piece)
        return out + self._join(run)

    def _join(self, run: list[str]) -> list[str]:
        # best[i]: the maximum strength of the first i syllables, and the length of the last word
        best: list[tuple[float, int]] = [(0.0, 0)]
        for i in range(1, len(run) + 1):
            choice = (best[i - 1][0], 1)
            if i >= 2:
                choice = max(choice, (best[i - 2][0] + self._pair(run[i - 2], run[i - 1], i == 2), 2))
            best.append(choice)
        words: list[str] = []
        i = len(run)
        while i:
            length = best[i][1]
            words.append("_".join(run[i - length : i]))
            i -= length
        return self._names(words[::-1])

    def _pair(self, a: str, b: str, first: bool) -> float:
        if b[0].isupper() and not (a[0].isupper() and a.isupper() == b.isupper()):
            return -1.0
        if a[0].isupper() and b[0].islower() and not first:
            return -1.0
        return self.strength.get(f"{a.lower()} {b.lower()}", -1.0)

    @staticmethod
    def _names(words: list[str]) -> list[str]:
        """Joins capitalized neighbours to one name, without the first word of the sentence."""
        out: list[str] = []
        for i, word in enumerate(words):
            capital = all(part[0].isupper() for part in word.split("_"))
            last = out[-1] if out else ""
            if capital and last and all(part[0].isupper() for part in last.split("_")) and i > 1:
                out[-1] = f"{last}_{word}"
            else:
                out.append(word)
        return out


def segment_words(rng: Random, text: str, lexicon: Lexicon) -> Example | None:
    """Returns None for text without a word of several syllables."""
    text = place_tones(text)
    answer = " ".join(lexicon.words(text))
    if "_" not in answer:
        return None
    return Example(ask(rng, PHRASINGS, text), answer)


def restore_spaces(rng: Random, text: str) -> Example | None:
    """Removes all or some spaces. Returns None for long texts, which do not occur without spaces."""
    if len(text) > 160:
        return None
    answer = place_tones(text)
    if rng.random() < 0.4:
        answer = answer.lower()
    share = rng.choice((1.0, 1.0, rng.uniform(0.1, 0.9)))
    joined = re.sub(" ", lambda _: "" if rng.random() < share else " ", answer)
    return Example(ask(rng, SPACE_PHRASINGS, joined), answer)
