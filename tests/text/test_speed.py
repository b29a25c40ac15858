"""Long repetitive texts: a quadratic algorithm would exceed the time limit."""

from __future__ import annotations

import time

import pytest

import binhdan

UNITS = ["a", " ", "\n", " \n", "!", "🦙", "\u0301", "Việt Nam ", "Việt", "<|im_start|>", "<"]


@pytest.mark.parametrize("unit", UNITS, ids=ascii)
def test_a_megabyte(model: binhdan.Model, unit: str) -> None:
    text = unit * (1_000_000 // len(unit.encode()))
    start = time.perf_counter()
    for parse_special in (False, True):
        tokens = model.tokenize(text, parse_special=parse_special)
        assert model.detokenize(tokens, special=True) == text
    assert time.perf_counter() - start < 20  # about 1 s on an idle machine
