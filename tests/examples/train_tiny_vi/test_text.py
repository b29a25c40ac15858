"""examples/train_tiny_vi/text.py: marks, tones, syllables, sentences."""

from __future__ import annotations

import unicodedata
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from train_tiny_vi.text import (
    ACUTE,
    DOT,
    GRAVE,
    TONES,
    add_tone,
    looks_vietnamese,
    place_tones,
    place_tones_new,
    segments,
    sentences,
    split_tone,
    strip_marks,
    strip_tones,
    vowel_places,
)

LETTERS = [
    unicodedata.normalize("NFC", case(letter) + tone)
    for letter in "aăâeêioôơuưy"
    for tone in ("", *TONES)
    for case in (str.lower, str.upper)
]


def test_strip_marks_changes_vietnamese_letters_only() -> None:
    assert len(set(LETTERS)) == 144
    assert strip_marks("Đường Nguyễn Huệ, ĐẶNG THUỲ") == "Duong Nguyen Hue, DANG THUY"
    assert strip_marks("Èrlǐtóu naïve Überraschung 二里頭 й") == "Erlǐtou naïve Überraschung 二里頭 й"
    assert strip_tones("Đường Nguyễn") == "Đương Nguyên"
    assert {len(strip_marks(c)) for c in LETTERS} == {1} and all(strip_marks(c).isascii() for c in LETTERS)


@given(st.text())
def test_strip_marks_keeps_length_and_case(text: str) -> None:
    bare = strip_marks(text)
    assert len(bare) == len(text)
    assert strip_marks(bare) == bare
    assert [c.isupper() for c in bare] == [c.isupper() for c in text]


@pytest.mark.parametrize("letter", LETTERS)
def test_split_and_add_tone_are_inverse(letter: str) -> None:
    toneless, tone = split_tone(f"th{letter}ng")
    assert add_tone(toneless, 2, tone) == f"th{letter}ng" if tone else toneless == f"th{letter}ng"


@pytest.mark.parametrize(
    ("new", "usual"),
    [
        ("hoà", "hòa"), ("Thuỷ", "Thủy"), ("KHOẺ", "KHỎE"), ("xoá", "xóa"), ("tuỳ theo", "tùy theo"),
        ("quý", "quý"), ("Quỳ", "Quỳ"), ("hoàn", "hoàn"), ("ngoại", "ngoại"), ("khoẻo", "khoẻo"),
    ],
)  # fmt: skip
def test_place_tones(new: str, usual: str) -> None:
    assert place_tones(new) == usual == place_tones(usual)
    assert place_tones(place_tones_new(usual)) == usual


def test_place_tones_new() -> None:
    assert place_tones_new("hòa, thủy, KHỎE, hoàn, quý") == "hoà, thuỷ, KHOẺ, hoàn, quý"
    assert split_tone("thuỷ")[1] != GRAVE and split_tone("thuý")[1] == ACUTE and split_tone("tuỵ")[1] == DOT


@pytest.mark.parametrize(
    "word",
    ["nghiêng", "ha", "Quyết", "gì", "giếng", "ươm", "yêu", "uống", "khuya", "thuyền", "tuếch", "xoong"],
)
def test_syllables_look_vietnamese(word: str) -> None:
    assert looks_vietnamese(word)


@pytest.mark.parametrize("word", ["world", "tàuhỏa", "Kursk", "str", "ngnha", "Wikipedia"])
def test_other_words_do_not_look_vietnamese(word: str) -> None:
    assert not looks_vietnamese(word)


def test_positions_of_tone_marks() -> None:
    assert vowel_places("quyên") == [2, 3] and vowel_places("gia") == [2] and vowel_places("gi") == [1]


def test_sentences_and_segments(text: str) -> None:
    paragraph = text.split("\n")[0]
    assert [s[:8] for s in sentences(paragraph)] == ["Hà Nội l", "Thành ph", "Ngày 2 t"]
    assert sentences("Theo TS. nguyễn thì 3.5 là đúng.") == ["Theo TS. nguyễn thì 3.5 là đúng."]
    for seed in range(30):
        pieces = segments(paragraph, Random(seed), 20, 150)
        assert all(20 <= len(p) <= 150 and p in paragraph for p in pieces)
    assert {len(segments(paragraph, Random(seed))) for seed in range(30)} >= {1, 2, 3}
