"""Greetings, and questions about the model and its abilities, from talk.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, Final

from train_tiny_vi.tasks.example import Example
from train_tiny_vi.text import strip_marks

_FRAMES: Final = (
    *("Làm sao để {}?", "Làm thế nào để {}?", "Cách {}", "Tôi muốn {}", "{} thế nào?", "{} như thế nào?"),
    *("Hướng dẫn {}", "Có cách nào {} không?", "Muốn {} thì làm sao?", "Lệnh nào để {}?", "Chỉ tôi cách {}"),
    *("Tôi có thể {} không?", "Mình muốn {} thì gõ lệnh gì?"),
)
_FRAMES_EN: Final = (
    *("How do I {}?", "How can I {}?", "How to {}?", "I want to {}", "Can I {}?"),
    "What is the command to {}?",
)
_OPENINGS: Final = ("Bạn ơi, ", "Cho tôi hỏi, ", "Em ơi, ", "Cho mình hỏi ")


def _read() -> dict[str, tuple[str, ...]]:
    with Path(__file__).with_suffix(".toml").open("rb") as file:
        return {entry["answer"]: tuple(_questions(entry)) for entry in tomllib.load(file)["talk"]}


def _questions(entry: dict[str, Any]) -> Iterator[str]:
    yield from entry["questions"]
    for key, frames in (("goals", _FRAMES), ("goals_en", _FRAMES_EN)):
        for goal in entry.get(key, ()):
            for frame in frames:
                question = frame.format(goal)
                yield question[0].upper() + question[1:]


TALK: Final = _read()  # answer -> questions


def talk(rng: Random) -> Example:
    """Returns a random question: some after an opening, in lower case, without marks or question mark."""
    answer, questions = rng.choice(list(TALK.items()))
    question = rng.choice(questions)
    if rng.random() < 0.1:
        question = rng.choice(_OPENINGS) + question[0].lower() + question[1:]
    if rng.random() < 0.3:
        question = question.lower()
    if rng.random() < 0.3:
        question = strip_marks(question)
    if rng.random() < 0.2:
        question = question.rstrip("?!. ")
    return Example(question, answer)
