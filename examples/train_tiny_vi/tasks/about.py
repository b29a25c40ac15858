"""Answer "X là gì?" with the first sentence of X's article, from memory or from a given text.

For names without an article, the answer is that the model does not know.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from random import Random

from train_tiny_vi.corpus import Document
from train_tiny_vi.tasks.example import Example, ask
from train_tiny_vi.tasks.titles import shorten
from train_tiny_vi.text import CAPITAL

WHAT = (
    "{} là gì?",
    "{} là gì",
    "Cho tôi biết về {}.",
    "Giới thiệu về {}.",
    "Hãy nói về {}",
    "{}",
    "Bạn biết gì về {}?",
)
WHO = ("{} là ai?", "{} là ai", *WHAT[2:])
READ = (
    "Đọc đoạn sau và trả lời: {question}\n{text}",
    "Dựa vào đoạn văn, {question}\n{text}",
    "{text}\nTheo đoạn trên, {question}",
)
UNKNOWN = "Tôi không biết chắc về {}. Tôi là một mô hình rất nhỏ, bạn nên tra ở một nguồn tin cậy."
_NAME = re.compile(rf"(?<=[^\W\d_] ){CAPITAL}\w+(?: {CAPITAL}\w+){{1,3}}")


def about(rng: Random, document: Document) -> Example | None:
    """Asks what the title is, from memory. Returns None if the first sentence does not define the title."""
    lead = document.lead()
    if not lead:
        return None
    name = document.name()
    if rng.random() < 0.25:
        name = document.title  # lower case
    return Example(ask(rng, WHO if document.is_human() else WHAT, name, usual=0.5), lead)


def about_given(rng: Random, document: Document) -> Example | None:
    """The same with the paragraph in the question."""
    lead = document.lead()
    text = shorten(document.paragraphs[0]) if lead else ""
    if not text:
        return None
    question = f"{document.name()} {'là ai' if document.is_human() else 'là gì'}?"
    return Example(rng.choice(READ).format(question=question, text=text), lead)


def about_unknown(rng: Random, document: Document, titles: Collection[str]) -> Example | None:
    """Asks for a name in the text that has no article. `titles`: all titles of articles, in lower case."""
    names = {n for n in _NAME.findall(document.text[:4000]) if n.lower() not in titles}
    if not names:
        return None
    name = rng.choice(sorted(names))
    return Example(ask(rng, rng.choice((WHAT, WHO)), name, usual=0.5), UNKNOWN.format(name))
