"""Greetings, and questions about the model and its abilities, from talk.toml."""

from __future__ import annotations

import tomllib
from pathlib import Path
from random import Random
from typing import Final

from train_tiny_vi.tasks.example import Example
from train_tiny_vi.text import strip_marks


def _read() -> dict[str, tuple[str, ...]]:
    with Path(__file__).with_suffix(".toml").open("rb") as file:
        return {entry["answer"]: tuple(entry["questions"]) for entry in tomllib.load(file)["talk"]}


TALK: Final = _read()  # answer -> questions


def talk(rng: Random) -> Example:
    """Returns a random question, sometimes in lower case, without marks or without its question mark."""
    answer, questions = rng.choice(list(TALK.items()))
    question = rng.choice(questions)
    if rng.random() < 0.3:
        question = question.lower()
    if rng.random() < 0.3:
        question = strip_marks(question)
    if rng.random() < 0.2:
        question = question.rstrip("?!. ")
    return Example(question, answer)
