"""Vietnamese syllables: letters, tone, and the place of the tone mark.

csrc/text/restore/syllable.cpp has the same rules.
"""

from __future__ import annotations

import unicodedata
from functools import cache

# Tones: 0 ngang (no mark), 1 huyền, 2 sắc, 3 ngã, 4 hỏi, 5 nặng.
TONE_MARKS = ("", "\u0300", "\u0301", "\u0303", "\u0309", "\u0323")
_TONES = {mark: tone for tone, mark in enumerate(TONE_MARKS) if mark}
_VOWELS = frozenset("aăâeêioôơuưy")
_ONSETS = "ngh ch đ gh gi kh ng nh ph qu th tr b c d g h k l m n p r s t v x"
_RHYMES = """
    a ac ach ai ak am an ang anh ao ap at au ay ăc ăk ăm ăn ăng ăp ăt âc âm ân âng âp ât âu ây
    e ec ek em en eng eo ep et ê êc êch êm ên êng ênh êp êt êu
    i ia ich iêc iêm iên iêng iêp iêt iêu ik im in ing inh ip it iu
    o oa oac oach oai oam oan oang oanh oao oap oat oay oăc oăm oăn oăng oăt oc oe oem oen oeo oet oi ok om on
    ong ooc oong op ot ô ôc ôi ôk ôm ôn ông ôp ôt ơ ơi ơm ơn ơng ơp ơt
    u ua uân uâng uât uây uc uê uêch uên uênh ui uk um un ung uôc uôi uôm uôn uông uôt uơ up ut uy uya uych
    uyên uyêt uyn uynh uyp uyt uyu ư ưa ưc ưi ưm ưn ưng ươc ươi ươm ươn ương ươp ươt ươu ưt ưu
    y yêm yên yêng yêt yêu yn ynh yt"""
ONSETS = tuple(_ONSETS.split())  # the longer first where one starts with another
RHYMES = frozenset(_RHYMES.split())


def strip_marks(text: str) -> str:
    """NFC text without Vietnamese marks; đ becomes d."""
    letters = (c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))
    return "".join(letters).replace("đ", "d").replace("Đ", "D")


def split(letters: str) -> tuple[str, str] | None:
    """Onset and rhyme of a syllable without tone ("ngươi": "ng", "ươi"); None for other words."""
    for onset in ONSETS:
        if letters.startswith(onset):
            rhyme = letters[len(onset) :]
            repeated = {"qu": "uư", "gi": "i"}.get(onset, "")
            if rhyme in RHYMES and rhyme[0] not in repeated:
                return onset, rhyme
    return ("", letters) if letters in RHYMES else None


def tone_place(onset: str, rhyme: str, *, new: bool) -> int:
    """The index of the letter that has the tone mark. new: hoà, thuý, khoẻ; else hòa, thúy, khỏe."""
    count = next((i for i, letter in enumerate(rhyme) if letter not in _VOWELS), len(rhyme))
    vowels, coda = rhyme[:count], rhyme[count:]
    marked = [i for i, letter in enumerate(vowels) if letter in "ăâêôơư"]
    if marked:
        place = marked[-1]
    elif count == 1:
        place = 0
    elif count == 2:
        place = 1 if coda or (new and vowels in ("oa", "oe", "uy")) else 0
    else:
        place = 1
    return len(onset) + place


@cache
def parse(word: str) -> tuple[str, int] | None:
    """Letters without tone, and the tone, of a word in lower case and NFC. None if it is no syllable."""
    letters, tone, place = "", 0, -1
    for character in word:
        base, *marks = unicodedata.normalize("NFD", character)
        for mark in marks:
            if mark not in _TONES:
                base = unicodedata.normalize("NFC", base + mark)
            elif tone:
                return None
            else:
                tone, place = _TONES[mark], len(letters)
        letters += base
    parts = split(letters)
    if parts is None:
        return None
    # A syllable that ends in a stop has tone sắc or nặng. Without marks it can be a word of another language.
    if (
        parts[1].endswith(("c", "ch", "k", "p", "t"))
        and tone not in (2, 5)
        and (tone or not letters.isascii())
    ):
        return None
    if tone and place not in (tone_place(*parts, new=False), tone_place(*parts, new=True)):
        return None
    return letters, tone


def write(letters: str, tone: int) -> str:
    """The syllable with its tone mark in the old place, NFC."""
    parts = split(letters)
    if not tone or parts is None:
        return letters
    place = tone_place(*parts, new=False)
    marked = unicodedata.normalize("NFC", letters[place] + TONE_MARKS[tone])
    return letters[:place] + marked + letters[place + 1 :]
