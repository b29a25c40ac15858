"""Makes a frequency list of quantize/data/frequency/ from texts. quantize/data/frequency/README.md has the
commands.

    python quantize/prune/make_lists.py OUT --name NAME --text FILE 1 --text FILE 3 --words en 1000000000 \\
        --vocabulary FILE.gguf

A text file is JSONL with the field "text" (.jsonl, .jsonl.xz), HTML, or plain text; the number is its weight.
`--words LANGUAGE TOTAL` adds the words of the package wordfreq, as if counted in a text of TOTAL words.
"""

from __future__ import annotations

import argparse
import html
import importlib
import io
import json
import lzma
import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from binhdan import _native

# A word with the character before it, as pre-tokenizers join them, and what is between two words.
WORD: Final = re.compile(r"[^\w\r\n]?_?(?:[^\W\d_]+|\d{1,4})")
SEPARATOR: Final = re.compile(r"(?:[^\w]|_){1,24}")
# wordfreq has small letters only. Powers of two between a word with a space before it and its other forms.
_TITLE, _UPPER, _BARE = -3, -7, -4


def texts_of(file: Path) -> Iterator[str]:
    if file.is_dir():
        for child in sorted(file.rglob("*")):
            if child.is_file() and child.suffix in (".py", ".html", ".txt"):
                yield from texts_of(child)
    elif ".jsonl" in file.name:
        opener = lzma.open if file.suffix == ".xz" else open
        with opener(file, "rt", encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line)["text"]
    else:
        text = file.read_text("utf-8", errors="replace")
        if file.suffix == ".html":
            text = re.sub(r"(?s)<(script|style|head)\b.*?</\1>|<[^>]*>", "", text)
            text = re.sub(r"\s*\n\s*", "\n", html.unescape(text))
        yield text


def count_texts(files: list[tuple[Path, int]]) -> tuple[Counter[str], Counter[str]]:
    words: Counter[str] = Counter()
    separators: Counter[str] = Counter()
    for file, weight in files:
        file_words: Counter[str] = Counter()
        file_separators: Counter[str] = Counter()
        for text in texts_of(file):
            file_words.update(WORD.findall(text))
            file_separators.update(SEPARATOR.findall(text))
        for total, counts in ((words, file_words), (separators, file_separators)):
            for unit, count in counts.items():
                total[unit] += count * weight
    return words, separators


def add_known_words(words: Counter[str], language: str, total: float) -> None:
    wordfreq = importlib.import_module("wordfreq")
    for word, frequency in wordfreq.get_frequency_dict(language, "large").items():
        count = frequency * total
        for form, power in ((word, 0), (word.title(), _TITLE), (word.upper(), _UPPER)):
            words[" " + form] += int(count * 2.0**power)
            words[form] += int(count * 2.0 ** (power + _BARE))


def add_rare_words(
    chosen: Counter[str], counted: Counter[str], tokenizers: list[_native.Tokenizer], minimum: int
) -> None:
    """Adds words until each token that occurs ``minimum`` times in the counted words occurs in a chosen word.

    Rare words as such do not matter, but their pieces do, and a few rare words contain most of them. The
    vocabularies of several models stand for all.
    """
    for tokenizer in tokenizers:
        covered = {token for word in chosen for token in tokenizer.encode(word)}
        counts: Counter[int] = Counter()
        word_of: dict[int, str] = {}
        for word, count in counted.most_common():
            for token in tokenizer.encode(word):
                counts[token] += count
                if token not in covered:
                    word_of.setdefault(token, word)
        for token, word in word_of.items():
            if counts[token] >= minimum:
                chosen[word] = max(counted[word], minimum)


def levels(counts: Counter[str]) -> dict[str, list[str]]:
    """The units by the power of two of their count, each level in alphabetical order."""
    found: dict[str, list[str]] = {}
    for unit, count in counts.items():
        found.setdefault(str(round(math.log2(count))), []).append(unit)
    return {level: sorted(units) for level, units in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path)
    parser.add_argument("--name", required=True, help="the name of the list in its card")
    parser.add_argument("--text", nargs=2, action="append", default=[], metavar=("FILE", "WEIGHT"))
    parser.add_argument("--words", nargs=2, metavar=("LANGUAGE", "TOTAL"))
    parser.add_argument("--minimum", type=int, default=16, help="the smallest count of a word")
    parser.add_argument("--vocabulary", action="append", default=[], help="a GGUF file; see --rarest")
    parser.add_argument("--rarest", type=int, default=2, help="the smallest count of a token of --vocabulary")
    options = parser.parse_args()
    words, separators = count_texts([(Path(file), int(weight)) for file, weight in options.text])
    if options.words:
        add_known_words(words, options.words[0], float(options.words[1]))
    tokenizers = [_native.Tokenizer(file) for file in options.vocabulary]
    chosen = Counter({word: count for word, count in words.items() if count >= options.minimum})
    add_rare_words(chosen, words, tokenizers, options.rarest)
    contents = {
        "name": options.name,
        "words": levels(chosen),
        "separators": levels(Counter(dict(separators.most_common(3000)))),
    }
    raw = io.BytesIO(json.dumps(contents, ensure_ascii=False, indent=0, sort_keys=True).encode())
    options.output.write_bytes(lzma.compress(raw.getvalue(), preset=9 | lzma.PRESET_EXTREME))
    units = sum(map(len, contents["words"].values()))
    print(f"{options.output}: {units} words, {options.output.stat().st_size} bytes")


if __name__ == "__main__":
    main()
