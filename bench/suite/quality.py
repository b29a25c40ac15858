"""Correctness of answers: restored diacritics, a hash that equal answers share, and the agreement of two
engines. A faster engine must not answer worse.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from binhdan.bench.suite.engines import Engine
from binhdan.bench.suite.result import Quality
from binhdan.bench.suite.workloads import Turn
from binhdan.runtime.client.model import Model

_TOKENS = 64


class GreedyAnswer(BaseModel):
    """A greedy answer. `expected`: the correct answer, or None when several answers are correct."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    answer: str
    expected: str | None


class Agreement(BaseModel):
    """Greedy answers of engines A and B to the same questions."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    answers: int
    same: int  # equal answers
    syllables: int  # in the expected answers
    right_a: int
    right_b: int


async def answer_all(
    engine: Engine, diacritics: Sequence[Turn], others: Sequence[Turn], each: int
) -> list[GreedyAnswer]:
    """Answers to the first `each` turns of both lists. Raises BinhdanError."""
    known = [(turn, turn.answer) for turn in diacritics[:each]]
    turns: list[tuple[Turn, str | None]] = [*known, *((turn, None) for turn in others[:each])]
    return [
        GreedyAnswer(answer=(await engine.answer(turn.messages, _TOKENS)).strip(), expected=expected)
        for turn, expected in turns
    ]


def agreement(a: Sequence[GreedyAnswer], b: Sequence[GreedyAnswer]) -> Agreement:
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
    """Greedy answers, one after the other, each up to its end token."""
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
    """(syllables of `expected` that `got` has at the same position, syllables of `expected`). Case and the
    final full stop are ignored: the questions have neither."""
    right, answer = _syllables(expected), _syllables(got)
    return sum(a == b for a, b in zip(right, answer, strict=False)), len(right)


def _syllables(text: str) -> list[str]:
    return text.lower().replace(",", " ").rstrip(" .").split()


def _answer(model: Model, turn: Turn) -> str:
    return model.chat(turn.messages, max_tokens=_TOKENS).text.strip()
