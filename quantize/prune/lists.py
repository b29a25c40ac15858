"""The frequency lists of quantize/data/frequency/: words and separators of a language with their counts."""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

from binhdan.runtime.errors import InvalidArgumentError

# What is measured of each list, for people: tokens per what.
UNITS: Final = {"vi": "syllable", "en": "word", "code": "100 characters"}


@dataclass(frozen=True)
class FrequencyList:
    """Counts are powers of two, which compress well; a factor of two does not matter here."""

    name: str
    words: dict[str, int]  # with the character before it → count in the text that was counted
    separators: dict[str, int]  # what is between two words → count

    def units(self) -> Iterator[tuple[str, int]]:
        yield from self.words.items()
        yield from self.separators.items()


def names() -> list[str]:
    return list(UNITS)


@cache
def read_list(name: str) -> FrequencyList:
    """Raises InvalidArgumentError for an unknown name."""
    if name not in UNITS:
        raise InvalidArgumentError(
            f"--prune-vocab: expected one of {', '.join(UNITS)}, got {name!r}; "
            "for other languages, --keep-text keeps the tokens of a file",
            param="prune_vocab",
        )
    packed = resources.files("binhdan.quantize").joinpath("data", "frequency", f"{name}.json.xz").read_bytes()
    contents = json.loads(lzma.decompress(packed))
    return FrequencyList(contents["name"], _counts(contents["words"]), _counts(contents["separators"]))


@cache
def read_samples() -> dict[str, str]:
    """Texts that are not counted in the lists, of each of UNITS: for measuring what pruning changes."""
    packed = resources.files("binhdan.quantize").joinpath("data", "frequency", "samples.json.xz").read_bytes()
    samples: dict[str, str] = json.loads(lzma.decompress(packed))
    return samples


def _counts(levels: dict[str, list[str]]) -> dict[str, int]:
    return {unit: 1 << int(level) for level, units in levels.items() for unit in units}
