"""runtime/client/restore.py and `binhdan restore`: diacritics are restored, nothing else changes."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
import unicodedata
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from masks import allowed, end_tokens

import binhdan
from binhdan.runtime.client.restore import Masks, Restorer, split, strip_marks, syllables, variants

BARE = "ha noi la thu do cua viet nam"
MARKED = "hà nội là thủ đô của việt nam"
COMMAND = [sys.executable, "-m", "binhdan", "restore"]


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


# ---- the command -------------------------------------------------------------------------------------------


def test_files_and_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"Ha Noi la thu do.\nxin \xff\xfe chao\r\n\n")
    (tmp_path / "b.txt").write_bytes(b"viet nam")
    command = [*COMMAND, "--stats", "--threads", "1", tmp_path / "a.txt", tmp_path / "b.txt"]
    done = subprocess.run(command, capture_output=True, timeout=120)
    assert done.stdout == "Hà Nội là thủ đô.\n".encode() + b"xin \xff\xfe chao\r\n\n" + "việt nam".encode()
    assert (
        done.returncode == 0
        and "9 syllables in" in done.stderr.decode()
        and "đ for a million" in done.stderr.decode()
    )


def test_an_unknown_board_fails_before_the_work() -> None:
    command = [*COMMAND, "--stats", "--board", "nowhere"]
    done = subprocess.run(command, input=b"viet nam\n", capture_output=True, timeout=120)
    assert done.returncode == 1 and done.stdout == b""
    assert done.stderr.startswith(b"binhdan: unknown board 'nowhere'") and done.stderr.count(b"\n") == 1


def test_a_slow_pipe_is_processed_line_by_line() -> None:
    with subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        for _ in range(2):
            process.stdin.write(BARE.encode() + b"\n")
            process.stdin.flush()
            assert process.stdout.readline().decode() == MARKED + "\n"  # before the next line is written
        process.stdin.close()
        assert process.wait(timeout=60) == 0


def test_a_closed_output_pipe(tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("viet nam\n" * 5000)
    with subprocess.Popen(
        [*COMMAND, tmp_path / "long.txt"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout and process.stderr
        process.stdout.readline()
        process.stdout.close()
        begin = time.monotonic()
        assert process.wait(timeout=60) == 1 and process.stderr.read() == b""
        assert time.monotonic() - begin < 30


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.txt"], "nowhere.txt: No such file"),
        (["--max-concurrent", "0"], "at least 1"),
        (["/"], "/: Is a directory"),
    ],
)
def test_errors(arguments: list[str], message: str) -> None:
    done = subprocess.run(
        [*COMMAND, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120
    )
    assert (
        done.returncode == 1 and done.stdout == "" and done.stderr.count("\n") == 1 and message in done.stderr
    )
