"""Multiple choice by likelihood: the model chooses the answer whose text it finds most probable.

A line of a file is a JSON object, as in VMLU: ``{"id", "question", "choices": ["A. ...", ...], "answer"}``.
The answer is a letter. The prompt is ``Câu hỏi: QUESTION\\nTrả lời:``, and a choice follows without its
letter. Choices are compared by the sum of the logarithms of their tokens' probabilities, and by that sum per
byte, which does not favour short choices (as acc and acc_norm of lm-evaluation-harness).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from binhdan import _native
from binhdan.quantize.evaluate.intervals import Interval, ratio_interval
from binhdan.quantize.evaluate.windows import check_generates
from binhdan.quantize.texts import OpenModel, open_model, read_text
from binhdan.runtime.errors import BadFormatError, InvalidArgumentError

PROMPT: Final = "Câu hỏi: {}\nTrả lời:"
_LETTERS: Final = "ABCDEFGHIJ"
_PREFIX: Final = re.compile(r"^\s*([A-J])\s*[.):]\s*")

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Question:
    id: str
    question: str
    choices: tuple[str, ...]  # without letters
    answer: int


@dataclass(frozen=True)
class ChoiceScores:
    questions: int
    accuracy: Interval  # by the sum of the logarithms
    accuracy_per_byte: Interval  # by the sum per byte
    chance: float  # accuracy of guessing


def read_questions(path: Path) -> list[Question]:
    """Raises BadFormatError, which names the line, or OSError."""
    questions = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            questions.append(_question(json.loads(line)))
        except (ValueError, RecursionError) as error:
            raise BadFormatError(
                f"{path}: line {number}: expected an object with id, question, choices and answer: {error}"
            ) from error
    return questions


def _question(value: Any) -> Question:
    if not isinstance(value, dict):
        raise ValueError(f"got {str(value)[:40]!r}")
    choices, answer = value.get("choices"), value.get("answer")
    if not isinstance(value.get("question"), str):
        raise ValueError("question is not a text")
    if not isinstance(choices, list) or not all(isinstance(choice, str) for choice in choices):
        raise ValueError("choices is not a list of texts")
    if not 2 <= len(choices) <= len(_LETTERS):
        raise ValueError(f"choices has {len(choices)} entries, not 2 to {len(_LETTERS)}")
    letters = _LETTERS[: len(choices)]
    if not isinstance(answer, str) or len(answer.strip()) != 1 or answer.strip() not in letters:
        raise ValueError(f"answer is not one of the letters {letters}")
    texts = tuple(_PREFIX.sub("", choice).strip() for choice in choices)
    if not all(texts):
        raise ValueError("a choice has no text")
    return Question(str(value.get("id", "")), value["question"], texts, letters.index(answer.strip()))


def answer_questions(
    file: Path, questions: Sequence[Question], *, threads: int = 0, progress: Progress = lambda *_: None
) -> ChoiceScores:
    """The accuracy of a model. Raises BinhdanError."""
    if not questions:
        raise InvalidArgumentError("choices: expected at least one question")
    right: list[float] = []
    right_per_byte: list[float] = []
    with open_model(file) as model:
        check_generates(model)
        for done, question in enumerate(questions):
            progress(done, len(questions))
            sums = np.array(
                [_log_probability(model, question, choice, threads) for choice in question.choices]
            )
            sizes = np.array([len(choice.encode()) for choice in question.choices])
            right.append(float(sums.argmax() == question.answer))
            right_per_byte.append(float((sums / sizes).argmax() == question.answer))
    progress(len(questions), len(questions))
    ones = [1.0] * len(questions)
    return ChoiceScores(
        questions=len(questions),
        accuracy=ratio_interval(right, ones),
        accuracy_per_byte=ratio_interval(right_per_byte, ones),
        chance=float(np.mean([1 / len(question.choices) for question in questions])),
    )


def _log_probability(model: OpenModel, question: Question, choice: str, threads: int) -> float:
    prompt = PROMPT.format(question.question)
    before = [*model.prefix, *model.tokenize(prompt)]
    tokens = [*model.prefix, *model.tokenize(f"{prompt} {choice}")]
    if len(tokens) > model.info.context:
        raise InvalidArgumentError(
            f"choices: question {question.id or question.question[:40]!r} has {len(tokens):,} tokens, more"
            f" than the context of {model.info.context:,}"
        )
    # A token may contain the end of the prompt and the start of the choice.
    common = next((i for i, (a, b) in enumerate(zip(before, tokens, strict=False)) if a != b), len(before))
    first = max(common, 1) - 1
    return -float(_native.score_tokens(model.handle, np.array(tokens, np.int32), first, threads)["nll"].sum())
