"""Rewrite a sentence: quickly typed text becomes a sentence with capitals and punctuation.

The text has lost its capitals and its punctuation, and in part its marks, its spelling and its long forms.
"""

from __future__ import annotations

import re
from random import Random

from train_tiny_vi.tasks.example import Example, ask
from train_tiny_vi.tasks.spelling import make_errors
from train_tiny_vi.tasks.teencode import shorten
from train_tiny_vi.text import CAPITAL, place_tones, strip_marks

PHRASINGS = (
    "Viết lại câu này cho đúng: {}",
    "viet lai cau nay cho dung: {}",
    "Viết lại cho chỉn chu: {}",
    "Thêm dấu câu và viết hoa: {}",
    "Viết hoa và thêm dấu câu cho đoạn sau: {}",
    "Viết lại thành câu hoàn chỉnh: {}",
    "Câu này viết lại thế nào cho đúng? {}",
)
_PUNCTUATION = re.compile(r"(?<!\d)[.,;:!?…]+|[\"“”()]|[.,;:!?…]+(?!\d)")
_SENTENCE = re.compile(rf"{CAPITAL}.*[.!?…]", re.DOTALL)


def rewrite(rng: Random, text: str) -> Example | None:
    """Returns None for text that is not whole sentences, or without marks."""
    answer = place_tones(text)
    if not _SENTENCE.fullmatch(answer) or strip_marks(answer) == answer:
        return None
    question = " ".join(_PUNCTUATION.sub(" ", answer.lower()).split())
    kind = rng.random()
    if kind < 0.35:
        question = strip_marks(question)
    elif kind < 0.55:
        question = shorten(rng, question, rng.choice((0.0, 0.5, 1.0)))
    elif kind < 0.75:
        question = make_errors(rng, question)
    return Example(ask(rng, PHRASINGS, question), answer)
