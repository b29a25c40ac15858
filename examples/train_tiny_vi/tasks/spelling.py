"""Fix spelling: the question has misspelt syllables of a text; the answer is the text.

The errors are common ones: sounds that are the same in a dialect, hỏi and ngã, tone marks on the wrong vowel,
typing errors, and keys of Telex and VNI that were not converted to letters.
"""

from __future__ import annotations

import re
import unicodedata
from random import Random

from train_tiny_vi.tasks.example import Example, ask
from train_tiny_vi.text import (
    ACUTE,
    DOT,
    GRAVE,
    HOOK,
    TILDE,
    WORD,
    add_tone,
    looks_vietnamese,
    place_tones,
    place_tones_new,
    split_tone,
    strip_marks,
    vowel_places,
)

PHRASINGS = (
    "Sửa chính tả: {}",
    "sua chinh ta: {}",
    "Sửa lỗi chính tả: {}",
    "Sửa lỗi chính tả trong câu sau: {}",
    "Hãy sửa lỗi chính tả câu này: {}",
    "Sửa lại câu này cho đúng chính tả: {}",
    "Kiểm tra chính tả giúp tôi: {}",
    "Viết lại cho đúng chính tả: {}",
    "Câu sau sai chính tả, sửa giúp mình: {}",
)
TONE_PHRASINGS = (
    "Sửa vị trí dấu: {}",
    "Đặt lại dấu cho đúng chỗ: {}",
    "Chuẩn hóa dấu thanh: {}",
    "Sửa cách đặt dấu: {}",
    *PHRASINGS,
)
TYPING_PHRASINGS = (
    "Chuyển Telex sang tiếng Việt: {}",
    "Câu này gõ Telex bị lỗi, sửa giúp: {}",
    "Gõ lại thành tiếng Việt: {}",
    "Sửa lỗi gõ phím: {}",
    *PHRASINGS[:4],
)
# Sounds that are the same in some dialect, at the start and at the end of a syllable.
_STARTS = (
    ("s", "x"), ("ch", "tr"), ("d", "gi"), ("r", "d"), ("r", "gi"), ("l", "n"), ("ng", "ngh"), ("g", "gh"),
    ("c", "k"), ("v", "d"), ("qu", "h"), ("d", "v"),
)  # fmt: skip
_ENDS = (("n", "ng"), ("t", "c"), ("c", "t"), ("ng", "n"), ("i", "y"), ("ch", "t"), ("nh", "n"), ("o", "u"))
_TELEX_TONE = {GRAVE: "f", ACUTE: "s", HOOK: "r", TILDE: "x", DOT: "j"}
_VNI_TONE = {GRAVE: "2", ACUTE: "1", HOOK: "3", TILDE: "4", DOT: "5"}
_TELEX = {"ă": "aw", "â": "aa", "ê": "ee", "ô": "oo", "ơ": "ow", "ư": "uw", "đ": "dd"}
_VNI = {"ă": "a8", "â": "a6", "ê": "e6", "ô": "o6", "ơ": "o7", "ư": "u7", "đ": "d9"}
_NEIGHBOUR_KEYS = {
    "a": "sq", "b": "vn", "c": "xv", "d": "sf", "e": "wr", "g": "fh", "h": "gj", "i": "uo", "k": "jl",
    "l": "k", "m": "n", "n": "bm", "o": "ip", "p": "o", "q": "wa", "r": "et", "s": "ad", "t": "ry", "u": "yi",
    "v": "cb", "x": "zc", "y": "tu",
}  # fmt: skip


def typed(syllable: str, letters: dict[str, str], tones: dict[str, str]) -> str:
    """Returns the keys of a syllable, with its tone at the end: "vieetj" in Telex for "việt"."""
    toneless, tone = split_tone(syllable)
    keys = "".join(
        (key[0].upper() + key[1:] if c.isupper() else key)
        for c in toneless
        for key in [letters.get(c.lower(), c.lower())]
    )
    return keys + tones.get(tone, "")


def telex(syllable: str) -> str:
    return typed(syllable, _TELEX, _TELEX_TONE)


def vni(syllable: str) -> str:
    return typed(syllable, _VNI, _VNI_TONE)


def confuse_sound(rng: Random, syllable: str) -> str:
    """Replaces a sound at the start or the end by a similar one, or exchanges hỏi and ngã."""
    toneless, tone = split_tone(syllable)
    low = toneless.lower()
    choices = []
    for a, b in (*_STARTS, *((b, a) for a, b in _STARTS)):
        rest = low[len(a) :]
        if (
            low.startswith(a)
            and rest[:1]
            and strip_marks(rest[0]) in "aeiouy"
            and not (b == "h" and a == "h")
        ):
            choices.append(b + rest)
    choices += [low[: -len(a)] + b for a, b in _ENDS if low.endswith(a) and len(low) > len(a) + 1]
    if tone in (HOOK, TILDE) and (not choices or rng.random() < 0.5):
        choices, tone = [low], TILDE if tone == HOOK else HOOK
    wrong = rng.choice(choices) if choices else low
    return _like(toneless, _retone(wrong, tone))


def misplace_tone(rng: Random, syllable: str) -> str:
    """Moves the tone mark to another vowel: "toàn" becomes "tòan"."""
    toneless, tone = split_tone(syllable)
    old = next((i for i, (a, b) in enumerate(zip(toneless, syllable, strict=True)) if a != b), -1)
    places = [i for i in vowel_places(toneless) if i != old]
    return add_tone(toneless, rng.choice(places), tone) if tone and places else syllable


def slip(rng: Random, syllable: str) -> str:
    """Omits, doubles or mistypes a letter, or swaps two."""
    if len(syllable) < 3:
        return syllable + syllable[-1]
    i = rng.randrange(1, len(syllable))
    kind = rng.randrange(4)
    if kind == 0:
        return syllable[:i] + syllable[i + 1 :]
    if kind == 1:
        return syllable[:i] + syllable[i] + syllable[i:]
    if kind == 2:
        return syllable[: i - 1] + syllable[i] + syllable[i - 1] + syllable[i + 1 :]
    neighbours = _NEIGHBOUR_KEYS.get(syllable[i].lower())
    return syllable[:i] + rng.choice(neighbours) + syllable[i + 1 :] if neighbours else syllable


def _retone(toneless: str, tone: str) -> str:
    """Adds the tone at its usual position: a letter with its own mark, else the main vowel."""
    places = vowel_places(toneless)
    if not tone or not places:
        return toneless
    marked = [i for i in places if strip_marks(toneless[i]) != toneless[i]]
    if marked:
        return add_tone(toneless, marked[-1], tone)
    closed = places[-1] < len(toneless) - 1
    return add_tone(
        toneless, places[1] if len(places) > 2 or (closed and len(places) > 1) else places[0], tone
    )


def _like(model: str, text: str) -> str:
    """Returns `text` with the capitalization of `model`."""
    if len(model) > 1 and model.isupper():
        return text.upper()
    return text[:1].upper() + text[1:] if model[:1].isupper() else text


def misspell(rng: Random, syllable: str) -> str:
    kind = rng.random()
    if kind < 0.45:
        return confuse_sound(rng, syllable)
    if kind < 0.60:
        return misplace_tone(rng, syllable)
    if kind < 0.80:
        return slip(rng, syllable)
    if kind < 0.87:
        return telex(syllable)
    if kind < 0.89:
        return vni(syllable)
    return strip_marks(syllable)


def _change(rng: Random, text: str, share: float, wrong: object) -> str:
    def change(m: re.Match[str]) -> str:
        syllable: str = m.group()
        if rng.random() >= share or not looks_vietnamese(syllable):
            return syllable
        return unicodedata.normalize("NFC", wrong(rng, syllable))  # type: ignore[operator]

    return WORD.sub(change, text)


def make_errors(rng: Random, text: str) -> str:
    """Misspells a few syllables and sometimes removes a space."""
    wrong = _change(rng, text, rng.uniform(0.04, 0.25), misspell)
    spaces = [m.start() for m in re.finditer(" ", wrong)]
    if spaces and rng.random() < 0.15:
        lost = rng.choice(spaces)
        wrong = wrong[:lost] + wrong[lost + 1 :]
    return wrong


def fix_spelling(rng: Random, text: str) -> Example | None:
    """Makes an example; one in ten has no error. Returns None for text without marks."""
    answer = place_tones(text)
    if strip_marks(answer) == answer:
        return None
    if rng.random() < 0.15:
        answer = answer.lower()
    kind = rng.random()
    if kind < 0.10:
        return Example(ask(rng, PHRASINGS, answer), answer)
    if kind < 0.20:
        wrong = _change(rng, answer, rng.uniform(0.3, 1), misplace_tone)
        wrong = place_tones_new(wrong) if rng.random() < 0.5 else wrong
        return Example(ask(rng, TONE_PHRASINGS, wrong), answer)
    if kind < 0.35:
        keys = vni if rng.random() < 0.2 else telex
        wrong = _change(rng, answer, rng.choice((1.0, rng.random())), lambda _, s: keys(s))
        return Example(ask(rng, TYPING_PHRASINGS, wrong, usual=0.2), answer)
    return Example(ask(rng, PHRASINGS, make_errors(rng, answer)), answer)
