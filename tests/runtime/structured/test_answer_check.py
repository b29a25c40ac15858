"""Checks of complete answers under their schemas."""

from __future__ import annotations

from typing import Any

import pytest

from binhdan.runtime.structured.answer_check import ENFORCED, AnswerCheck
from binhdan.runtime.structured.grammar_trial import GrammarTrial
from binhdan.runtime.structured.tool_format import HERMES

UNIQUE: Any = {"type": "object", "properties": {"x": {"type": "array", "uniqueItems": True}}}


def call(name: str, arguments: str) -> str:
    return HERMES.write(name, arguments)


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ('{"x": [1, 2]}', True),
        ('{"x": [1, 1]}', False),
        ('{"x": [], "x": []}', False),
        ('{"x": [{"a": 1, "\\u0061": 2}]}', False),  # one name in two notations
        ('{"x": [1, 1', True),  # a stop text ended it
        ("[" * 100_000, True),
    ],
)
def test_an_answer_under_a_schema(text: str, fits: bool) -> None:
    trial = GrammarTrial()
    try:
        assert AnswerCheck(UNIQUE).fits(text, trial.fits) is fits
    finally:
        trial.close()


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("văn bản", True),
        ('{"x": [1, 1]}', True),  # text, not a call
        (call("a", '{"x": [1]}'), True),
        (call("a", '{"x": [1, 1]}'), False),
        (call("b", '{"x": [1, 1]}'), True),  # its grammar enforces all of its schema
        (call("b", '{"y": 1, "y": 2}'), False),
        (call("a", '{"x": [1]}') + "\n" + call("a", '{"x": [1, 1]}'), False),
        (call("a", '{"x": [1,'), True),
    ],
)
def test_the_calls_of_an_answer(text: str, fits: bool) -> None:
    trial = GrammarTrial()
    try:
        check = AnswerCheck(None, {"a": UNIQUE, "b": ENFORCED}, HERMES)
        assert check.fits(text, trial.fits) is fits
    finally:
        trial.close()


def test_a_call_or_json() -> None:
    trial = GrammarTrial()
    try:
        check = AnswerCheck(UNIQUE, {"a": ENFORCED}, HERMES)
        assert check.fits(call("a", '{"x": [1, 1]}'), trial.fits)
        assert not check.fits('{"x": [1, 1]}', trial.fits)
    finally:
        trial.close()
