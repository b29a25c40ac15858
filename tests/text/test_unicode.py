"""NFC of the core, compared with Python's unicodedata."""

from __future__ import annotations

import random
import unicodedata

import pytest

from binhdan.runtime.ffi import library


def core_nfc(text: str) -> str:
    opened = library()
    ffi, lib = opened._ffi, opened._lib
    data = text.encode("utf-8", "surrogatepass")
    out, size = ffi.new("char[]", 4 * len(data) + 16), ffi.new("size_t *")
    assert lib.binhdan_normalize(data, len(data), out, 4 * len(data) + 16, size) == 0
    return bytes(ffi.buffer(out, size[0])).decode("utf-8", "surrogatepass")


@pytest.fixture(scope="module")
def assigned() -> list[str]:
    """The characters that Python's Unicode assigns; the newer Unicode of the core does not change them."""
    return [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs")]


def test_every_character(assigned: list[str]) -> None:
    text = "\n".join(assigned)
    assert core_nfc(text) == unicodedata.normalize("NFC", text)


def test_random_sequences(assigned: list[str]) -> None:
    active = [c for c in assigned if unicodedata.combining(c) or unicodedata.normalize("NFD", c) != c]
    pool = [*active, *map(chr, range(0x1100, 0x1200)), *"aăâeêioôơuưyđ \n" * 200]
    rng = random.Random(1)
    text = "".join(rng.choices(pool, k=200_000))
    assert core_nfc(text) == unicodedata.normalize("NFC", text)
    assert core_nfc(unicodedata.normalize("NFD", text)) == unicodedata.normalize("NFC", text)


def test_surrogates_pass_through() -> None:
    assert core_nfc("e\u0301\ud800") == "é\ud800"
