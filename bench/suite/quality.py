"""Whether the answers are right: marks restored, a hash by which builds that answer alike are known, and how
far two engines agree, so that none wins by answering worse.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from binhdan.bench.suite.result import Quality
from binhdan.bench.suite.targets import Target
from binhdan.bench.suite.workloads import Turn
from binhdan.runtime.client.model import Model

_TOKENS = 64


class Answered(BaseModel):
    """A greedy answer; `expected`: the right one, where only one is right."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    answer: str
    expected: str | None


class Agreement(BaseModel):
    """Greedy answers of two engines to the same questions."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    answers: int
    same: int  # of them
    syllables: int  # of the answers of which only one is right
    right_a: int
    right_b: int


async def answer_all(
    target: Target, diacritics: Sequence[Turn], others: Sequence[Turn], each: int
) -> list[Answered]:
    """Of the first `each` turns of both. Raises BinhdanError."""
    known = [(turn, turn.answer) for turn in diacritics[:each]]
    asked: list[tuple[Turn, str | None]] = [*known, *((turn, None) for turn in others[:each])]
    return [
        Answered(answer=(await target.answer(turn.messages, _TOKENS)).strip(), expected=expected)
        for turn, expected in asked
    ]


def agreement(a: Sequence[Answered], b: Sequence[Answered]) -> Agreement:
    counts = [
        (restored(one.expected, one.answer), restored(one.expected, other.answer))
        for one, other in zip(a, b, strict=True)
        if one.expected is not None
    ]
    return Agreement(
        answers=len(a),
        same=sum(one.answer == other.answer for one, other in zip(a, b, strict=True)),
        syllables=sum(total for (_, total), _ in counts),
        right_a=sum(right for (right, _), _ in counts),
        right_b=sum(right for _, (right, _) in counts),
    )


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
