"""runtime/client/spell.py: misspelled words, their places and suggestions."""

from __future__ import annotations

import asyncio

import pytest

import binhdan

WRONG = "Tôi đả đi học ở trường đại học."
RIGHT = "Tôi đã đi học ở trường đại học."


def test_a_misspelled_word() -> None:
    text = f"À.\n{WRONG}"
    found = binhdan.spell(text)
    assert found.text == f"À.\n{RIGHT}"
    (one,) = found.misspellings
    assert one.word == "đả" == text.encode()[one.begin : one.end].decode()
    assert one.suggestions[0][0] == "đã" and 0.9 < one.suggestions[0][1] <= 1
    assert asyncio.run(binhdan.aspell(RIGHT)) == binhdan.Spelling(RIGHT, [])


def test_settings() -> None:
    assert binhdan.spell(WRONG, min_confidence=1).misspellings == []
    page = f"<p title='đả'>{WRONG}</p>"
    assert binhdan.spell(page, format="html").text == page.replace(WRONG, RIGHT)
    with pytest.raises(binhdan.InvalidArgumentError, match="format: expected one of"):
        binhdan.spell(WRONG, format="x")  # type: ignore[arg-type]
    with pytest.raises(binhdan.InvalidArgumentError, match="min_confidence: expected 0 to 1, got 2"):
        binhdan.spell(WRONG, min_confidence=2)
    with pytest.raises(binhdan.InvalidArgumentError, match="NUL byte"):
        binhdan.spell("a\0")


@pytest.mark.parametrize(
    "text", ["", "ha noi la thu do cua viet nam", "Ông Nguyển Xuâm ở Krông Buk đã đến.", "Ω đả \ud800"]
)
def test_other_text_stays(text: str) -> None:
    assert binhdan.spell(text).misspellings == []


def test_the_style_of_the_text() -> None:
    for given, wanted in (("Hoà bình và thuỷ lợi rất quan trọng, sức khoẻ củng vậy.", "cũng"),):
        assert wanted in binhdan.spell(given).text
