"""Diacritic restoration as a task score: the syllables of a text that a model restores.

The text without diacritics is given to the model as `binhdan restore --model` does: a mask allows only its
letters with some diacritics, and the model chooses the most probable ones. So any model that chats has a
score.
"""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from binhdan.quantize.evaluate.intervals import Interval, ratio_interval
from binhdan.runtime.client.masked_restore import Restorer, strip_marks
from binhdan.runtime.client.model import load
from binhdan.runtime.errors import BadFormatError

Progress = Callable[[int, int], None]  # (lines, lines)


@dataclass(frozen=True)
class RestorationScores:
    lines: int
    syllables: int  # that contain a letter
    accuracy: Interval  # part of the syllables that are restored; the bootstrap draws lines
    unchanged: float  # the accuracy of leaving the text without diacritics


def restore_text(
    file: Path, text: str, *, threads: int | None = None, progress: Progress = lambda *_: None
) -> RestorationScores:
    """Restores the lines of ``text`` that have diacritics. Raises BinhdanError."""
    lines = [unicodedata.normalize("NFC", line.strip()) for line in text.splitlines()]
    lines = [line for line in lines if strip_marks(line) != line]
    if not lines:
        raise BadFormatError("text: expected Vietnamese text with diacritics to remove and restore")
    bare = [strip_marks(line) for line in lines]
    counts = []

    async def run() -> None:
        with load(file, threads=threads, max_sequences=16) as model:
            done = 0
            async for answer in Restorer(model).lines(bare):
                counts.append(compare(lines[done], answer))
                done += 1
                progress(done, len(lines))

    asyncio.run(run())
    left = [compare(line, plain) for line, plain in zip(lines, bare, strict=True)]
    syllables = sum(total for _, total in counts)
    return RestorationScores(
        lines=len(lines),
        syllables=syllables,
        accuracy=ratio_interval([right for right, _ in counts], [total for _, total in counts]),
        unchanged=sum(right for right, _ in left) / syllables,
    )


def compare(expected: str, got: str) -> tuple[int, int]:
    """(syllables that are equal, syllables). Both have the same letters, so the syllables have places."""
    pairs = zip(expected.split(), got.split(), strict=True)
    equal = [a == b for a, b in pairs if any(map(str.isalpha, a))]
    return sum(equal), len(equal)
