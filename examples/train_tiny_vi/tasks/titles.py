"""Find a title: the name of the article for its first paragraph, the heading of the section for others."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from random import Random

from train_tiny_vi.corpus import Document
from train_tiny_vi.tasks.example import Example, ask
from train_tiny_vi.text import sentences

PHRASINGS = (
    "Đặt tiêu đề cho đoạn văn: {}",
    "Đoạn sau nói về gì? {}",
    "Chủ đề của đoạn văn sau là gì? {}",
    "Đặt tiêu đề: {}",
    "Cho biết chủ đề của đoạn sau: {}",
    "Đoạn văn này viết về điều gì? {}",
    "{}\nĐoạn trên nói về gì?",
)


def shorten(paragraph: str, longest: int = 420) -> str:
    """Returns the first sentences, up to `longest` characters; "" if the first one is longer."""
    out = ""
    for sentence in sentences(paragraph):
        if len(out) + len(sentence) >= longest:
            break
        out = f"{out} {sentence}".strip()
    return out


def title_paragraphs(rng: Random, document: Document) -> Iterator[Example]:
    """Yields examples for the first paragraph and those after a heading (a short line without full stop)."""
    lines = document.paragraphs
    pairs = [(document.name(), lines[0])] if document.lead() else []
    for heading, paragraph in pairwise(lines):
        if 4 <= len(heading) <= 50 and heading[-1].isalnum() and heading[0].isupper() and len(paragraph) > 80:
            pairs.append((heading, paragraph))
    for title, paragraph in pairs:
        if text := shorten(paragraph):
            yield Example(ask(rng, PHRASINGS, text, usual=0.2), title)
