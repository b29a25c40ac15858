"""python -m train_restorer.sentences config.toml PART PARTS: the lines of a part, for lattices.cpp.

These are the documents that `python -m train_restorer --without PART PARTS` leaves out.
"""

from __future__ import annotations

import argparse
import random
import re
import tomllib
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from train_restorer.tokens import documents

_PLAIN, _LOWER, _CAPITALS = 0.08, 0.08, 0.05  # shares of the lines
_PUNCTUATION = re.compile(r"[^\w\s]")


def _changed(line: str, drawn: float) -> str:
    """drawn: from 0 to 1, by chance."""
    if drawn < _PLAIN:
        return " ".join(_PUNCTUATION.sub(" ", line).lower().split())
    if drawn < _PLAIN + _LOWER:
        return line.lower()
    return line.upper() if drawn < _PLAIN + _LOWER + _CAPITALS else line


def lines(files: Iterable[Path], part: int, parts: int, seed: int = 1) -> Iterator[str]:
    """Some lines become lower case, with or without punctuation, or capitals."""
    chance = random.Random(seed)
    for number, document in enumerate(chain.from_iterable(map(documents, files))):
        if number % parts != part:
            continue
        for line in filter(None, map(str.strip, document["text"].split("\n"))):
            if changed := _changed(line, chance.random()):
                yield changed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("part", type=int)
    parser.add_argument("parts", type=int)
    arguments = parser.parse_args()
    config = tomllib.loads(arguments.config.read_text(encoding="utf-8"))
    files = [arguments.config.parent / name for name in config["text"]["files"]]
    for line in lines(files, arguments.part, arguments.parts):
        print(line)


if __name__ == "__main__":
    main()
