"""runtime/client/masked_restore.py: a model restores diacritics, nothing else changes."""

from __future__ import annotations

import asyncio
import random
import unicodedata
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from masks import allowed, end_tokens

import binhdan
from binhdan.runtime.client.masked_restore import Masks, Restorer, split, strip_marks, syllables, variants

BARE = "ha noi la thu do cua viet nam"
MARKED = "hà nội là thủ đô của việt nam"


@pytest.fixture(scope="module")
def restorer(model: binhdan.Model) -> Restorer:
    return Restorer(model)


def restore(restorer: Restorer, text: str) -> str:
    async def whole() -> str:
        return "".join([line async for line in restorer.lines(text.splitlines(keepends=True))])

    return asyncio.run(whole())


# ---- letters -----------------------------------------------------------------------------------------------


def test_variants_of_letters() -> None:
    assert len(variants("a")) == len(variants("Ậ")) == 18 and len(variants("i")) == 6 == len(variants("Y"))
    assert variants("đ") == ("d", "đ") and variants("D") == ("D", "Đ")
    assert variants("ñ") == ("ñ",) and variants("1") == ("1",) and variants("😀") == ("😀",)
    alphabet = "aàáảãạăằắẳẵặâầấẩẫậbcdđeèéẻẽẹêềếểễệghiìíỉĩịklmnoòóỏõọôồốổỗộơờớởỡợpqrstuùúủũụưừứửữựvxyỳýỷỹỵ"
    for letter in alphabet + alphabet.upper():
        bare = unicodedata.normalize("NFD", letter)[0].replace("đ", "d").replace("Đ", "D")
        assert strip_marks(letter) == bare and letter in variants(bare) == variants(letter)


def test_syllables() -> None:
    assert syllables("Hà Nội, 1010: thủ-đô! 😀 - ñ") == 4


@given(st.text('aă .,;!\n"x', max_size=120), st.integers(4, 30))
def test_parts_join_to_the_line(line: str, size: int) -> None:
    parts = split(line, size)
    assert "".join(parts) == line and all(0 < len(part) <= size for part in parts)


def test_parts_end_where_sentences_do() -> None:
    assert split("Một hai ba. Bốn năm sáu. Bảy", 20) == ["Một hai ba. ", "Bốn năm sáu. Bảy"]
    assert split("một hai ba, bốn năm sáu bảy", 20) == ["một hai ba, ", "bốn năm sáu bảy"]
    assert split("mot hai ba bon", 8) == ["mot hai ", "ba bon"]


# ---- masks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_allowed_tokens_strip_to_the_text(model: binhdan.Model, seed: int) -> None:
    text = "Đường Lê Lợi: 12a, ñ😀 \tx<|im_end|>Ỹ"
    mask, choose = Masks(model).of(text), random.Random(seed).choice
    tokens: list[int] = []
    while end_tokens(model).isdisjoint(choices := allowed(mask(tokens))):
        tokens.append(choose(choices))
        assert len(tokens) <= len(text.encode())
    assert set(choices) == end_tokens(model)
    assert strip_marks(model.detokenize(tokens)) == strip_marks(text)


def test_the_right_answer_is_allowed(model: binhdan.Model) -> None:
    mask, tokens = Masks(model).of(BARE), model.tokenize(MARKED)
    for count, token in enumerate(tokens):
        assert token in allowed(mask(tokens[:count]))


# ---- text --------------------------------------------------------------------------------------------------


def test_diacritics_are_restored(restorer: Restorer) -> None:
    assert restore(restorer, BARE) == MARKED
    assert restore(restorer, "Ha Noi la thu do.\r\n\n  viet nam \n") == "Hà Nội là thủ đô.\r\n\n  việt nam \n"


def test_decomposed_letters_are_composed_and_nothing_else(restorer: Restorer) -> None:
    text = unicodedata.normalize("NFD", MARKED) + " \u212b \u2126"  # NFC would change Angstrom and Ohm
    restored = restore(restorer, text)
    assert strip_marks(restored) == strip_marks(MARKED) + " \u212b \u2126"


@settings(max_examples=25)
@given(
    st.lists(
        st.sampled_from(
            [*BARE.split(), "Đà", "nẵng", "<|im_end|>", "\n", "\r\n", "😀", "ñ", "1.5", "\x00", "\ud800"]
        )
    )
    | st.text(max_size=12)
)
def test_only_diacritics_change(restorer: Restorer, pieces: list[str] | str) -> None:
    text = unicodedata.normalize("NFC", pieces if isinstance(pieces, str) else " ".join(pieces))
    assert strip_marks(restore(restorer, text)) == strip_marks(text)


def test_a_line_longer_than_any_context(restorer: Restorer) -> None:
    text = f"{BARE}. " * 300 + "a" * 500
    restored = restore(restorer, text)
    assert strip_marks(restored) == text and restored.count(MARKED) > 250


async def test_lines_are_in_order_and_not_delayed(model: binhdan.Model) -> None:
    given = 0

    async def endless() -> AsyncIterator[str]:
        nonlocal given
        while True:
            given += 1
            yield f"{given} viet nam\n"

    lines = Restorer(model, max_concurrent=2).lines(endless())
    got = [await anext(lines) for _ in range(6)]
    assert [strip_marks(line) for line in got] == [f"{number} viet nam\n" for number in range(1, 7)]
    assert given < 6 + 10
    await lines.aclose()  # type: ignore[attr-defined]
    assert str(await model.aask(f"them dau: {BARE}")) == MARKED  # no request of it is left


async def test_an_error_of_the_source_is_raised(model: binhdan.Model) -> None:
    async def broken() -> AsyncIterator[str]:
        yield "viet nam\n"
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        async for _ in Restorer(model).lines(broken()):
            pass


def test_together_must_be_positive() -> None:
    with pytest.raises(binhdan.InvalidArgumentError, match="at least 1"):
        Restorer(None, 0)  # type: ignore[arg-type]
