"""bench/suite/quality.py: restored diacritics."""

from __future__ import annotations

import binhdan
from binhdan.bench.suite import quality
from binhdan.bench.suite.quality import Agreement, GreedyAnswer, agreement
from binhdan.bench.suite.workloads import load_workload


def test_restored_syllables() -> None:
    assert quality.restored("Mẹ đi chợ.", "mẹ đi chợ") == (3, 3)
    assert quality.restored("Mưa, gió.", "mưa giờ") == (1, 2)
    assert quality.restored("Mẹ đi chợ.", "") == (0, 3)


def test_the_embedded_model_restores_marks(model: binhdan.Model) -> None:
    turns = load_workload("diacritics").turns[:8]
    one = quality.measure(model, turns, [])
    assert one.share > 0.5 and one == quality.measure(model, turns, [])


def test_worse_answers_are_counted() -> None:
    right = GreedyAnswer(answer="hà nội", expected="hà nội")
    worse = GreedyAnswer(answer="ha nội", expected="hà nội")
    other = GreedyAnswer(answer="a", expected=None)
    found = agreement([right, other], [worse, other])
    assert found == Agreement(answers=2, same=1, syllables=2, right_a=2, right_b=1)
