"""csrc/text/regex.cpp and pretokenizer.cpp: the same words as the tokenizers library.

tests/cpp/test_text_models.cpp tests that time is linear.
"""

from __future__ import annotations

import random

import pytest
from tokenizers import Regex
from tokenizers.pre_tokenizers import Sequence, Split

from binhdan import _native

NAMES = _native.pretokenizer_names()
# The models' own expressions where the table counts in a match (Cut in pretokenizer.h).
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
)
_HALVES = "".join(rf"|\s{{{2**i}}}(?!\S)" for i in range(9, 1, -1))
_GROUPS = r"\d{1,3}(?=(?:\d{3})*\b)"
COUNTED = {
    "jais-2": [_LLAMA3 + _HALVES + r"|\s{1,2}(?!\S)|\s{1}"],
    "tiny_aya": [_GROUPS, *_native.pretokenizer_patterns("gpt-4o")],
    "cohere2moe": [_GROUPS, *_native.pretokenizer_patterns("gpt-4o")],
    "superbpe": [r"\p{N}+", r"(?=(\d{3})+(?!\d))"],
    "afmoe": [r"\p{N}+", r"(?<!\p{N})\p{N}{1,2}(?=(?:\p{N}{3})*(?!\p{N}))|\p{N}{3}",
              *_native.pretokenizer_patterns("afmoe")[1:]],
}  # fmt: skip
SYMBOLS = "a B é Đ ệ 's 'RE ll 1 12 ½ ! ... $ 中 한 ア \u0301 🦙 _ / İ ǅ ʰ < | ， 。 ٣ IMGIMG AZ <sentinel:1>"
PARTS = [*SYMBOLS.split(), " ", "  ", "\n", "\r\n", "\t", "\u3000"]


def words(name: str, text: str) -> list[str]:
    data, start, out = text.encode(), 0, []
    for end in _native.split_words(name, data):
        out.append(data[start:end].decode())
        start = end
    return out


@pytest.mark.parametrize("name", NAMES)
def test_words_equal_those_of_the_tokenizers_library(name: str) -> None:
    patterns = COUNTED.get(name) or _native.pretokenizer_patterns(name)
    oracle = Sequence([Split(Regex(pattern), "isolated") for pattern in patterns])
    draw = random.Random(name)
    parts = [*PARTS, "123", "4567", "89012345"]
    if name == "superbpe":  # its digits beside other numbers: pretokenizer.cpp says how they differ
        parts = [part for part in parts if not any(c.isnumeric() and c not in "0123456789" for c in part)]
    if name == "jais-2":
        parts += [" " * 37, " " * 700, "\u3000" * 9]
    for _ in range(200):
        text = "".join(draw.choice(parts) for _ in range(draw.randint(0, 14)))
        assert words(name, text) == [word for word, _ in oracle.pre_tokenize_str(text)], text


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("smollm", ["Năm", " ", "2", "0", "2", "6", ",", " ĐƯỜNG", " '", "s"]),
        ("gpt-2", ["Năm", " 2026", ",", " ĐƯỜNG", " '", "s"]),
        ("llama3", ["Năm", " ", "202", "6", ",", " ĐƯỜNG", " '", "s"]),
        ("tekken", ["Năm", " ", "2", "0", "2", "6", ",", " ĐƯỜNG", " '", "s"]),
    ],
)
def test_words_of_vietnamese(name: str, expected: list[str]) -> None:
    assert words(name, "Năm 2026, ĐƯỜNG 's") == expected


def test_unknown_name() -> None:
    with pytest.raises(ValueError, match="expected one of pretokenizer_names"):
        _native.split_words("nothing", b"a")
