"""Restore diacritics: the answer differs from the text of the question in Vietnamese marks only.

The text may be bare, partly marked, wrongly marked, in lower case without punctuation, or in capitals.
"""

from __future__ import annotations

import re
import unicodedata
from random import Random

from train_tiny_vi.tasks.example import Example, ask
from train_tiny_vi.text import (
    TONES,
    WORD,
    add_tone,
    place_tones,
    split_tone,
    strip_marks,
    strip_tones,
    vowel_places,
)

PHRASINGS = (
    "Thêm dấu: {}",
    "them dau: {}",
    "Thêm dấu tiếng Việt: {}",
    "Thêm dấu cho câu sau: {}",
    "Thêm dấu cho câu này: {}",
    "Hãy thêm dấu vào câu này: {}",
    "Hãy thêm dấu cho đoạn văn sau: {}",
    "Thêm dấu giúp tôi: {}",
    "Bạn thêm dấu giúp mình câu này với: {}",
    "Khôi phục dấu: {}",
    "Khôi phục dấu tiếng Việt cho đoạn sau: {}",
    "Bỏ dấu vào câu: {}",
    "Điền dấu: {}",
    "Đánh dấu lại câu sau: {}",
    "Viết lại có dấu: {}",
    "Viết câu sau thành tiếng Việt có dấu: {}",
    "Chuyển thành tiếng Việt có dấu: {}",
    "Câu này viết có dấu thế nào? {}",
    "{}\nThêm dấu cho câu trên.",
)
_QUALITIES = {"a": "aăâ", "e": "eê", "o": "oôơ", "u": "uư", "d": "dđ"}
_PUNCTUATION = re.compile(r"(?<!\d)[.,;:!?]+|[\"“”()]|[.,;:!?]+(?!\d)")


def mark_wrongly(rng: Random, syllable: str) -> str:
    """Returns the same letters with other marks."""
    if rng.random() < 0.5:  # another tone
        toneless, tone = split_tone(syllable)
    else:  # other letter marks
        toneless, tone = strip_marks(syllable), split_tone(syllable)[1]
        toneless = "".join(
            (letter.upper() if c.isupper() else letter)
            for c in toneless
            for letter in [rng.choice(_QUALITIES.get(c.lower(), c.lower()))]
        )
    places = vowel_places(toneless)
    if not places:
        return toneless
    return add_tone(toneless, rng.choice(places), rng.choice([t for t in ("", *TONES) if t != tone]))


def damage_marks(rng: Random, text: str) -> str:
    """Removes or changes marks in one of several random ways."""
    kind = rng.random()
    if kind < 0.62:
        return strip_marks(text)
    if kind < 0.70:
        return strip_tones(text)
    if kind < 0.73:  # remove the marks of letters, keep tones
        return WORD.sub(lambda m: _only_tone(m.group()), text)
    if kind < 0.85:
        share = rng.uniform(0.15, 0.9)
        return WORD.sub(lambda m: strip_marks(m.group()) if rng.random() < share else m.group(), text)
    if kind < 0.97:
        wrong, bare = rng.uniform(0.05, 0.4), rng.choice((0.0, 0.3, 0.6))

        def damage(m: re.Match[str]) -> str:
            syllable: str = m.group()
            if rng.random() < wrong:
                return mark_wrongly(rng, syllable)
            return strip_marks(syllable) if rng.random() < bare else syllable

        return WORD.sub(damage, text)
    return text


def _only_tone(syllable: str) -> str:
    toneless, tone = split_tone(syllable)
    place = next((i for i, (a, b) in enumerate(zip(toneless, syllable, strict=True)) if a != b), -1)
    bare = strip_marks(toneless)
    return unicodedata.normalize("NFC", add_tone(bare, place, tone)) if place >= 0 else bare


def restore(rng: Random, text: str) -> Example | None:
    """Returns None for text without marks."""
    answer = place_tones(text)
    if strip_marks(answer) == answer:
        return None
    style = rng.random()
    if style < 0.12:
        answer = answer.lower()
    elif style < 0.24:  # as in quickly typed text
        answer = " ".join(_PUNCTUATION.sub(" ", answer.lower()).split())
    elif style < 0.32:
        answer = answer.upper()
    return Example(ask(rng, PHRASINGS, damage_marks(rng, answer)), answer)
