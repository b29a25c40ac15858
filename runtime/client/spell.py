"""Finds misspelled words in Vietnamese text. csrc/text/restore/spell.h does the work."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from binhdan.runtime.client.restore import check_options, open_restorer
from binhdan.runtime.ffi import TextFormat, library


@dataclass(frozen=True, slots=True)
class Misspelling:
    """begin, end: bytes in the UTF-8 of the input. suggestions: 1 to 5, with probabilities, best first."""

    begin: int
    end: int
    word: str
    suggestions: list[tuple[str, float]]


@dataclass(frozen=True, slots=True)
class Spelling:
    """text: with the first suggestion of each word. misspellings: in the order of the text."""

    text: str
    misspellings: list[Misspelling]


def spell(text: str, *, format: TextFormat = "text", min_confidence: float = 0.7) -> Spelling:
    """The misspelled words of a text that has its marks.

    Names stay, and so do sentences in which few words have marks. format: as for `restore`.
    min_confidence: a word whose best suggestion has a lower probability is not reported.
    Raises InvalidArgumentError for a text with a NUL character.
    """
    check_options("keep", format)
    data = text.encode("utf-8", "surrogatepass")
    found: dict[str, Any] = json.loads(library().spell(open_restorer(), data, format, min_confidence))
    misspellings = [
        Misspelling(
            one["begin"],
            one["end"],
            data[one["begin"] : one["end"]].decode("utf-8", "surrogatepass"),
            [(each["text"], each["probability"]) for each in one["suggestions"]],
        )
        for one in found["misspellings"]
    ]
    return Spelling(found["text"], misspellings)


async def aspell(text: str, *, format: TextFormat = "text", min_confidence: float = 0.7) -> Spelling:
    """`spell` for asyncio, in a thread."""
    return await asyncio.to_thread(spell, text, format=format, min_confidence=min_confidence)
