"""TCVN3, VNI and VIQR: tables, round trips, recognition."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import unicodedata
from typing import get_args

import pytest

from binhdan.runtime.client.encodings import Encoding, decode, encode, recognize
from binhdan.runtime.errors import InvalidArgumentError

SMALL = [
    unicodedata.normalize("NFC", base + quality + tone)
    for base, tone in itertools.product("aeiouy", ["", *"\u0300\u0301\u0303\u0309\u0323"])
    for quality in ["", "\u0302", "\u0306", "\u031b"]
    if quality == "" or base in {"\u0302": "aeo", "\u0306": "a", "\u031b": "ou"}[quality]
] + ["đ"]
TEXT = "Cộng hoà xã hội chủ nghĩa Việt Nam. Độc lập - Tự do - Hạnh phúc! Đường này dài 3,5 km?"
OLD = ("tcvn3", "vni", "viqr")


def test_letters() -> None:
    assert len(SMALL) == len(set(SMALL)) == 12 * 6 + 1 and all(len(letter) == 1 for letter in SMALL)


# The first line of the constitution's letterhead, as fonts of the 1990s stored it.
@pytest.mark.parametrize(
    ("encoding", "stored"),
    [
        ("tcvn3", "Céng hoµ x· héi chñ nghÜa ViÖt Nam"),
        ("vni", "Coäng hoaø xaõ hoäi chuû nghóa Vieät Nam"),
        ("viqr", "Co^.ng hoa` xa~ ho^.i chu? nghi~a Vie^.t Nam"),
    ],
)
def test_known_text(encoding: Encoding, stored: str) -> None:
    text = "Cộng hoà xã hội chủ nghĩa Việt Nam"
    assert encode(text, encoding) == stored.encode("latin-1")
    assert decode(stored.encode("latin-1"), encoding) == text
    assert decode(stored.encode(), encoding) == text  # the Western letters in UTF-8
    assert recognize(stored.encode("latin-1")) == recognize(stored.encode()) == encoding


@pytest.mark.parametrize("encoding", get_args(Encoding))
def test_round_trip(encoding: Encoding) -> None:
    letters = "".join(SMALL) + " " + " ".join(SMALL)
    pairs = " ".join(a + b for a, b in itertools.product([*SMALL, "d", "n"], repeat=2))
    for text in (letters, pairs, TEXT, "", "x"):
        assert decode(encode(text, encoding), encoding) == text


@pytest.mark.parametrize("encoding", [e for e in get_args(Encoding) if e != "tcvn3"])
def test_round_trip_of_capitals(encoding: Encoding) -> None:
    text = "".join(SMALL).upper() + " " + TEXT.upper()
    assert decode(encode(text, encoding), encoding) == text


def test_capitals_of_tcvn3() -> None:
    assert decode(encode("ĐẶNG THÁI SƠN, ĂÂÊÔƠƯĐ", "tcvn3"), "tcvn3") == "ĐặNG THáI SƠN, ĂÂÊÔƠƯĐ"


@pytest.mark.skipif(shutil.which("iconv") is None, reason="no iconv: apt-get install libc-bin")
def test_tcvn3_is_that_of_iconv() -> None:
    text = "".join(SMALL)
    done = subprocess.run(
        ["iconv", "-f", "TCVN5712-1", "-t", "UTF-8"], input=encode(text, "tcvn3"), capture_output=True
    )
    if done.returncode:
        pytest.skip("this iconv has no TCVN5712-1")
    assert done.stdout.decode() == text


def test_viqr_escapes() -> None:
    text = "Ở đây có 'dd', a^2 và C:\\d. Ai? Ma. Mạ. a* o*"
    assert encode("Mạ. Ai?", "viqr") == b"Ma.. Ai\\?"
    assert decode(encode(text, "viqr"), "viqr") == text
    assert decode(b"ddu+o+`ng d\\d u* \\", "viqr") == "đường dd ư \\"


def test_recognition() -> None:
    for encoding in get_args(Encoding):
        assert recognize(encode(TEXT, encoding)) == encoding
    assert recognize(b"Ha Noi la thu do. Is it? Yes (it is). a.b c'est") == "utf-8"
    assert recognize("Le thé était très frais là-bas, déjà été".encode()) == "utf-8"
    assert recognize("Le thé était très frais là-bas, déjà été".encode("latin-1")) is None
    assert recognize(b"\xff\x00\x80\x81") is None
    assert recognize(b"") == "utf-8"


def test_errors() -> None:
    with pytest.raises(InvalidArgumentError, match=r"from: expected one of utf-8, utf-16, tcvn3.*got 'x'"):
        decode(b"", "x")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="to: expected one of"):
        encode("", "x")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match=r"expected text in utf-8: .* position 1"):
        decode(b"a\xff", "utf-8")
    for encoding in ("tcvn3", "vni"):
        for text in ("giá 5 €", "ö"):
            with pytest.raises(InvalidArgumentError, match=f"expected characters of {encoding}, got .* at "):
                encode(text, encoding)  # type: ignore[arg-type]
