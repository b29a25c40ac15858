"""Vietnamese spelling: marks, tones, positions of tone marks, and sentence splitting.

All text is NFC. A *bare* syllable has no marks ("duong"); a marked one has letters with their own mark (đ, ă,
â, ê, ô, ơ, ư) and at most one of five tone marks.
"""

from __future__ import annotations

import re
import unicodedata
from random import Random
from typing import Final

GRAVE, ACUTE, TILDE, HOOK, DOT = TONES = "\u0300\u0301\u0303\u0309\u0323"
_VOWELS: Final = "aăâeêioôơuưy"
_QUALITY: Final = {"ă": "a", "â": "a", "ê": "e", "ô": "o", "ơ": "o", "ư": "u", "đ": "d"}


def _tables() -> tuple[dict[int, str], dict[int, str]]:
    bare, toneless = {}, {}
    for lower in (*_VOWELS, "đ"):
        base = _QUALITY.get(lower, lower)
        for tone in ("", *TONES) if lower != "đ" else ("",):
            letter = unicodedata.normalize("NFC", lower + tone)
            for case in (str.lower, str.upper):
                bare[ord(case(letter))] = case(base)
                toneless[ord(case(letter))] = case(lower)
    bare[ord("Ð")] = "D"  # U+00D0, which old keyboards produce for Đ
    return bare, toneless


_BARE, _TONELESS = _tables()
CAPITAL: Final = "[A-Z" + "".join(sorted({chr(c) for c in _BARE if chr(c).isupper() and c > 127})) + "]"
WORD: Final = re.compile(r"[^\W\d_]+")


def strip_marks(text: str) -> str:
    """Removes all marks from Vietnamese letters; keeps other characters and the length."""
    return text.translate(_BARE)


def strip_tones(text: str) -> str:
    """Removes tone marks; keeps đ, ă, â, ê, ô, ơ, ư."""
    return text.translate(_TONELESS)


def split_tone(syllable: str) -> tuple[str, str]:
    """Returns the syllable without its tone, and the tone: one of TONES, or "" for level."""
    for c in syllable:
        for mark in unicodedata.normalize("NFD", c)[1:]:
            if mark in TONES and c.translate(_TONELESS) != c:
                return strip_tones(syllable), mark
    return syllable, ""


def add_tone(toneless: str, place: int, tone: str) -> str:
    """Adds a tone to the letter at index `place`."""
    letter = unicodedata.normalize("NFC", toneless[place] + tone)
    return toneless[:place] + letter + toneless[place + 1 :]


def vowel_places(toneless: str) -> list[int]:
    """Returns the indices of letters that may have a tone mark: vowels without the u of qu-, the i of gi-."""
    low = toneless.lower()
    places = [i for i, c in enumerate(low) if c in _VOWELS]
    if len(places) > 1 and (low.startswith("qu") or low.startswith("gi")) and places[0] == 1:
        places = places[1:]
    return places


_NEW_STYLE: Final = re.compile(
    r"(?<![qQ])(?:([oO])([àáãảạÀÁÃẢẠèéẽẻẹÈÉẼẺẸ])|([uU])([ỳýỹỷỵỲÝỸỶỴ]))(?![^\W\d_])"
)


def _to_first(match: re.Match[str]) -> str:
    first, second = match[1] or match[3], match[2] or match[4]
    bare, tone = split_tone(second)
    return unicodedata.normalize("NFC", first + tone) + bare


def place_tones(text: str) -> str:
    """Moves tone marks to the more common style: "hoà", "thuỷ", "khoẻ" become "hòa", "thủy", "khỏe".

    Only the open endings oa, oe and uy have two styles.
    """
    return _NEW_STYLE.sub(_to_first, text)


_OLD_STYLE: Final = re.compile(r"(?<![qQ])(?:([òóõỏọÒÓÕỎỌ])([aeAE])|([ùúũủụÙÚŨỦỤ])([yY]))(?![^\W\d_])")


def place_tones_new(text: str) -> str:
    """Moves tone marks to the other style: "hòa" becomes "hoà"."""

    def to_second(match: re.Match[str]) -> str:
        first, second = match[1] or match[3], match[2] or match[4]
        bare, tone = split_tone(first)
        return bare + unicodedata.normalize("NFC", second + tone)

    return _OLD_STYLE.sub(to_second, text)


_ONSETS: Final = r"(?:ngh|ng|nh|gh|gi|kh|ph|qu|th|tr|ch|[bcdđghklmnprstvx])?"
_SYLLABLE: Final = re.compile(rf"{_ONSETS}[{_VOWELS}]{{1,3}}(?:ch|ng|nh|[cmnpt])?", re.IGNORECASE)


def looks_vietnamese(word: str) -> bool:
    """Returns whether a word has the form of one Vietnamese syllable: "nghiêng", "ha", but not "tàuhỏa"."""
    return _SYLLABLE.fullmatch(strip_tones(word)) is not None


_END_OF_SENTENCE: Final = re.compile(rf"(?<=[.!?;…])\s+(?={CAPITAL}|\d|[\"“(-])")


def sentences(paragraph: str) -> list[str]:
    """Splits after . ! ? ; … before a capital, a digit, a quote or a dash."""
    return [s for s in _END_OF_SENTENCE.split(paragraph.strip()) if s]


def segments(paragraph: str, rng: Random, shortest: int = 20, longest: int = 400) -> list[str]:
    """Joins sentences to segments of random maximum lengths, short ones more often.

    Omits segments shorter than `shortest` or longer than `longest` characters.
    """
    out: list[str] = []
    run, limit = "", 0
    for sentence in sentences(paragraph):
        if run and len(run) + 1 + len(sentence) > limit:
            out.append(run)
            run = ""
        if not run:
            limit = int(shortest + (longest - shortest) * rng.random() ** 1.7)
        run = f"{run} {sentence}".strip()
    out.append(run)
    return [s for s in out if shortest <= len(s) <= longest]
