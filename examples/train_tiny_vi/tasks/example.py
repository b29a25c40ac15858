"""A question with its answer, and random variation of the question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from train_tiny_vi.text import strip_marks


@dataclass(frozen=True)
class Example:
    question: str
    answer: str


def ask(rng: Random, phrasings: Sequence[str], content: str, usual: float = 0.4) -> str:
    """Returns a question: `content` in the first phrasing with probability `usual`, else in a random one.

    Sometimes removes the marks of the instruction, changes its first letter to lower case, or replaces the
    space before `content` by a new line.
    """
    phrasing = phrasings[0] if rng.random() < usual else rng.choice(phrasings)
    if rng.random() < 0.25:
        phrasing = strip_marks(phrasing)
    if rng.random() < 0.25:
        phrasing = phrasing[:1].lower() + phrasing[1:]
    if rng.random() < 0.15 and phrasing.endswith(": {}"):
        phrasing = phrasing[:-3] + "\n{}"
    return phrasing.replace("{}", content)
