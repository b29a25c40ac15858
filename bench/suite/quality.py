"""Whether the answers are right: marks restored, and a hash by which builds that answer alike are known."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from binhdan.bench.result import Quality
from binhdan.bench.workloads import Turn
from binhdan.runtime.model import Model

_TOKENS = 64


def measure(model: Model, diacritics: Sequence[Turn], others: Sequence[Turn]) -> Quality:
    """Greedy answers, one after the other, each to its end."""
    answers = [_answer(model, turn) for turn in diacritics]
    rest = [_answer(model, turn) for turn in others]
    counts = [restored(turn.answer, answer) for turn, answer in zip(diacritics, answers, strict=True)]
    digest = hashlib.sha256("\0".join([*answers, *rest]).encode()).hexdigest()
    return Quality(
        syllables=sum(total for _, total in counts),
        right=sum(right for right, _ in counts),
        answers_sha256=digest,
    )


def restored(expected: str, got: str) -> tuple[int, int]:
    """Syllables of `expected` that stand in the same place of `got`, and how many there are. Case and the
    full stop do not matter: bare sentences have neither."""
    right, answer = _syllables(expected), _syllables(got)
    return sum(a == b for a, b in zip(right, answer, strict=False)), len(right)


def _syllables(text: str) -> list[str]:
    return text.lower().replace(",", " ").rstrip(" .").split()


def _answer(model: Model, turn: Turn) -> str:
    return model.chat(turn.messages, max_tokens=_TOKENS).text.strip()
