"""Old encodings of Vietnamese text: TCVN3 (ABC), VNI (of Windows) and VIQR (RFC 1456).

TCVN3 and VNI use the bytes of Western text for other letters. So such text is found as bytes, and as UTF-8
text with the Western letters of these bytes ("ViÖt Nam").
"""

from __future__ import annotations

import codecs
import re
import string
import unicodedata
from functools import cache
from typing import Literal, get_args

from binhdan.runtime.errors import InvalidArgumentError

Encoding = Literal["utf-8", "utf-16", "tcvn3", "vni", "viqr"]
_TONES = "\u0300\u0301\u0303\u0309\u0323"
_QUALITIES = "\u0302\u0306\u031b"  # â ă ơ
_MARKS = frozenset(_TONES + _QUALITIES)
# One-byte letters of TCVN 5712:1993 (VN3). Capitals with a tone have no bytes: fonts of capitals show them.
_TCVN3 = {
    0xA1: "ĂÂÊÔƠƯĐăâêôơưđ",
    0xB5: "àảãáạ",
    0xBB: "ằẳẵắ",
    0xC6: "ặầẩẫấậè",
    0xCE: "ẻẽéẹềểễếệìỉ",
    0xDC: "ĩíịò",
    0xE1: "ỏõóọồổỗốộờởỡớợù",
    0xF1: "ủũúụừửữứựỳỷỹýỵ",
}
# VNI: a letter, then one character for its marks. Keys: combining marks, quality first.
_VNI_MARKS = {
    **dict(zip(_TONES, "øùõûï", strict=True)),
    "\u0302": "â",
    **{"\u0302" + tone: written for tone, written in zip(_TONES, "àáãåä", strict=True)},
    "\u0306": "ê",
    **{"\u0306" + tone: written for tone, written in zip(_TONES, "èéüúë", strict=True)},
}
_VNI_LETTERS = {"đ": "ñ", "ơ": "ô", "ư": "ö", "í": "í", "ì": "ì", "ỉ": "æ", "ĩ": "ó", "ị": "ò", "ỵ": "î"}
_VIQR_MARKS = {
    "^": "\u0302", "(": "\u0306", "+": "\u031b", "*": "\u031b",
    "'": "\u0301", "`": "\u0300", "?": "\u0309", "~": "\u0303", ".": "\u0323",
}  # fmt: skip
_VIQR_OF = {mark: key for key, mark in _VIQR_MARKS.items() if key != "*"}
_LETTERS_WITH = {"\u0302": "aeo", "\u0306": "a", "\u031b": "ou"}
_WORD = re.compile(r"[^\W\d_]+")
_MARKED = re.compile(r"[^\W\d_a-z]", re.IGNORECASE)
# Onset, vowels, coda, without tone.
_SYLLABLE = re.compile(
    "(?:ngh|ch|đ|gh|gi|kh|ng|nh|ph|qu|th|tr|[bcdghklmnprstvx])?"
    "(?:[aăâeêioôơuưy]|ai|ao|au|ay|âu|ây|eo|êu|ia|iê|iu|oa|oă|oe|oi|ôi|ơi|oo|ua|uâ|uê|ui|uô|uơ|uy|ưa|ưi|ươ|ưu|yê"
    "|iêu|yêu|oai|oao|oay|oeo|uây|uôi|uya|uyê|uyu|ươi|ươu)(?:ch|ng|nh|[cmnptk])?"
)
_MIN_MARKED = 3  # words with marks that show an encoding
_MIN_SHARE = 0.9  # of them that are possible syllables
_MIN_VIQR = 0.08  # letters with marks among all characters; Vietnamese has 20 %


@cache
def _tables(encoding: Encoding) -> tuple[dict[str, str], re.Pattern[str]]:
    """Western characters of a letter -> the letter, and a pattern of them."""
    table: dict[str, str] = {}
    if encoding == "tcvn3":
        for first, letters in _TCVN3.items():
            table |= {chr(first + i): letter for i, letter in enumerate(letters)}
    else:
        for letter in "aeouyơưAEOUYƠƯ":
            stem = _vni_letter(letter) if letter.lower() in _VNI_LETTERS else letter
            for marks, written in _VNI_MARKS.items():
                composed = unicodedata.normalize("NFC", letter + marks)
                if len(composed) == 1:
                    table[stem + written] = composed
                    if letter.isupper():  # the form that encode() writes
                        table[stem + written.upper()] = composed
        for letter in _VNI_LETTERS:
            table |= {_vni_letter(letter): letter, _vni_letter(letter.upper()): letter.upper()}
    longest = sorted(table, key=len, reverse=True)
    return table, re.compile("|".join(map(re.escape, longest)))


def _vni_letter(letter: str) -> str:
    written = _VNI_LETTERS[letter.lower()]
    return written.upper() if letter.isupper() else written


def decode(data: bytes, encoding: Encoding) -> str:
    """Text in NFC. TCVN3 and VNI: bytes, or UTF-8 with the Western letters of these bytes.

    Raises InvalidArgumentError for an unknown encoding, and for bytes that are not of it.
    """
    check_encoding("from", encoding)
    try:
        if encoding == "utf-8":
            return data.decode("utf-8-sig")
        if encoding == "utf-16":
            return data.decode("utf-16")
        if encoding == "viqr":
            return _decode_viqr(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InvalidArgumentError(f"expected text in {encoding}: {error}") from None
    table, pattern = _tables(encoding)
    return pattern.sub(lambda found: table[found[0]], _western(data))


def _western(data: bytes) -> str:
    """Text with one character for each byte of a Western encoding."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")
    # Windows-1252 has other characters for the bytes 80 to 9F; no letter of the tables has them.
    return unicodedata.normalize("NFC", text)


def encode(text: str, encoding: Encoding) -> bytes:
    """The bytes of a text. Raises InvalidArgumentError for a character that the encoding does not have."""
    check_encoding("to", encoding)
    if encoding == "utf-8":
        return text.encode("utf-8", "surrogatepass")
    if encoding == "utf-16":
        return text.encode("utf-16")
    text = unicodedata.normalize("NFC", text)
    if encoding == "viqr":
        return _encode_viqr(text).encode()
    table, _ = _tables(encoding)
    written = {letter: characters for characters, letter in table.items()}
    if encoding == "tcvn3":  # a capital with a tone is a small letter in a font of capitals
        written |= {letter.upper(): c for letter, c in written.items() if letter.upper() not in written}
    used = set("".join(table)) - set(string.ascii_letters)
    for i, c in enumerate(text):
        if c not in written and (c in used or ord(c) > 0xFF):
            raise InvalidArgumentError(
                f"expected characters of {encoding}, got {c!r} at {i}: write utf-8, or replace the character"
            )
    return "".join(written.get(c, c) for c in text).encode("latin-1")


def _decode_viqr(text: str) -> str:
    parts: list[str] = []
    escaped = False
    for c in text:
        if c == "\\" and not escaped:
            escaped = True
            continue
        before = parts[-1] if parts and not escaped else ""
        escaped = False
        if before in ("d", "D") and c in "dD":
            parts[-1] = "đ" if before == "d" else "Đ"
        elif before and c in _VIQR_MARKS and _takes(before, _VIQR_MARKS[c]):
            parts[-1] = unicodedata.normalize("NFC", before + _VIQR_MARKS[c])
        else:
            parts.append(c)
    return "".join(parts) + "\\" * escaped


def _takes(letter: str, mark: str) -> bool:
    """Whether a letter can have one more mark."""
    base, *marks = list(unicodedata.normalize("NFD", letter.lower()))
    if mark in _LETTERS_WITH:
        return base in _LETTERS_WITH[mark] and not marks
    return base in "aeiouy" and not set(marks) - set(_QUALITIES)


def _encode_viqr(text: str) -> str:
    parts: list[str] = []
    before = ""
    for c in text:
        base, *marks = list(unicodedata.normalize("NFD", c))
        if c in "đĐ":
            written = "dd" if c == "đ" else "DD"
        elif marks and _MARKS.issuperset(marks):
            by_kind = sorted(marks, key=_TONES.__contains__)  # the quality, then the tone
            written = base + "".join(_VIQR_OF[mark] for mark in by_kind)
        else:
            written = c
        doubled = before in ("d", "D") and c in "dDđĐ"
        if c == "\\" or doubled or (before and c in _VIQR_MARKS and _takes(before, _VIQR_MARKS[c])):
            written = "\\" + written
        parts.append(written)
        before = c
    return "".join(parts)


def recognize(data: bytes) -> Encoding | None:
    """The encoding of a Vietnamese text; None when it does not show.

    "utf-8" for all other text in UTF-8. UTF-16 needs a byte order mark.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = None
    if text is not None and _share(text) >= _MIN_SHARE:
        return "utf-8"
    if text is not None and text.isascii():
        decoded = _decode_viqr(text)
        marked = len(_MARKED.findall(decoded)) >= _MIN_VIQR * len(decoded)
        return "viqr" if marked and _share(decoded) >= _MIN_SHARE else "utf-8"
    old: tuple[Encoding, ...] = ("tcvn3", "vni")
    found = [encoding for encoding in old if _share(decode(data, encoding)) >= _MIN_SHARE]
    if len(found) == 1:
        return found[0]
    return None if text is None else "utf-8"


def _share(text: str) -> float:
    """The share of possible Vietnamese syllables among the words with marks; 0 for few words."""
    words = [word for word in _WORD.findall(text) if _MARKED.search(word)]
    return sum(map(_is_syllable, words)) / len(words) if len(words) >= _MIN_MARKED else 0.0


def _is_syllable(word: str) -> bool:
    if not (word.islower() or word[1:].islower() or word.isupper()):
        return False
    decomposed = unicodedata.normalize("NFD", word.lower())
    tones = sum(c in _TONES for c in decomposed)
    letters = unicodedata.normalize("NFC", "".join(c for c in decomposed if c not in _TONES))
    return tones <= 1 and _SYLLABLE.fullmatch(letters) is not None


def check_encoding(option: str, encoding: str) -> None:
    """Raises InvalidArgumentError for an unknown encoding."""
    if encoding not in get_args(Encoding):
        known = ", ".join(get_args(Encoding))
        raise InvalidArgumentError(f"{option}: expected one of {known}, got {encoding!r}")
