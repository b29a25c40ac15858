"""The part of `binhdan bench restore` about `binhdan.spell`: errors are put into right text and looked for.

A word is a piece between spaces. Precision: the part of the reported words that are errors. Recall: the part
of the errors that is reported; corrected: those whose first suggestion is right.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import binhdan
from binhdan.bench.common.files import replace_block
from binhdan.bench.suite.restoration import Record
from binhdan.runtime.client.masked_restore import strip_marks

_BLOCK = re.compile(
    r"(<!-- spelling results of binhdan bench restore -->\n).*?(<!-- end spelling results -->)", re.DOTALL
)
_SHARE = 0.05  # of the words get an error
_TONE = re.compile("[\u0300\u0301\u0303\u0309\u0323]")
_WORD = re.compile(r"([^\W\d_]+)(\W*)")


def _patterns(form: str, *pairs: tuple[str, str]) -> list[tuple[re.Pattern[str], str]]:
    return [(re.compile(form.format(a)), b) for a, b in pairs]


_AFTER_VOWEL = "(?<=[aeiouyăâêôơư]){}$"
_SOUNDS = {
    "s, x": _patterns("^{}", ("s", "x"), ("x", "s")),
    "ch, tr": _patterns("^{}", ("ch", "tr"), ("tr", "ch")),
    "d, gi, r": _patterns(
        "^{}", ("d(?!i)", "gi"), ("d", "r"), ("gi(?=.)", "d"), ("r(?!i)", "gi"), ("r", "d")
    ),
    "n, ng": _patterns(_AFTER_VOWEL, ("n", "ng"), ("ng", "n")),
    "c, t": _patterns(_AFTER_VOWEL, ("c", "t"), ("t", "c")),
}
KINDS = ("hỏi, ngã", *_SOUNDS, "no tone", "no marks", "doubled letter", "missing letter", "swapped letters")


def misspell(word: str, kind: str, chance: random.Random) -> str:
    """A word in small letters with an error, or the same word where this error is not possible."""
    letters = unicodedata.normalize("NFD", word)
    tone = _TONE.search(letters)
    if kind == "hỏi, ngã":
        changed = letters.translate({0x303: 0x309, 0x309: 0x303})
    elif kind == "no tone":
        changed = _TONE.sub("", letters)
    elif kind == "no marks":
        changed = strip_marks(word)
    elif kind in _SOUNDS:
        # The tone mark is set aside: the patterns are of letters.
        base = unicodedata.normalize("NFC", _TONE.sub("", letters))
        options = [pattern.sub(by, base) for pattern, by in _SOUNDS[kind] if pattern.search(base)]
        if not options:
            return word
        changed = chance.choice(options)
        if tone and (mark := _with_tone(changed, base, word)) is not None:
            changed = mark
    else:
        whole = unicodedata.normalize("NFC", word)
        i = chance.randrange(len(whole))
        if kind == "doubled letter":
            changed = whole[: i + 1] + whole[i:]
        elif kind == "missing letter":
            changed = whole[:i] + whole[i + 1 :] if len(whole) > 2 else whole
        else:
            changed = whole[:i] + whole[i : i + 2][::-1] + whole[i + 2 :]
    return unicodedata.normalize("NFC", changed)


def _with_tone(changed: str, base: str, word: str) -> str | None:
    """`changed` with the tone of `word`, whose letters without tone are `base`: on the same vowel."""
    for i, (plain, marked) in enumerate(zip(base, word, strict=False)):
        if plain != marked:
            for at in (i + len(changed) - len(base), i):  # the beginning or the end of the word changed
                if 0 <= at < len(changed) and changed[at] == plain:
                    return changed[:at] + marked + changed[at + 1 :]
    return None


def with_errors(lines: Iterable[str], seed: int = 1) -> list[tuple[str, str, list[str]]]:
    """For each line: with errors, without, and the kind of error of each word ("" for none)."""
    chance, out = random.Random(seed), []
    for line in lines:
        words, kinds = line.split(), []
        given = list(words)
        for i, word in enumerate(words):
            kinds.append("")
            found = _WORD.fullmatch(word)
            if found is None or not found[1].islower() or len(found[1]) < 2 or chance.random() >= _SHARE:
                continue
            for kind in chance.sample(KINDS, len(KINDS)):
                changed = misspell(found[1], kind, chance)
                if changed != found[1]:
                    given[i], kinds[i] = changed + found[2], kind
                    break
        out.append((" ".join(given), " ".join(words), kinds))
    return out


@dataclass(slots=True)
class SpellingResult:
    """One set of lines. alarms: words that are reported in the text without errors."""

    name: str
    words: int = 0
    errors: int = 0
    reported: int = 0
    found: int = 0
    corrected: int = 0
    alarms: int | None = None
    kinds: dict[str, int] = field(default_factory=dict)  # no Counter: asdict() makes another one of it
    found_kinds: dict[str, int] = field(default_factory=dict)


def misspelled_pairs(records: Iterable[Record]) -> dict[str, list[tuple[str, str]]]:
    """Of each set the pairs with as many words and other errors than missing marks."""
    sets: dict[str, list[tuple[str, str]]] = {}
    for one in records:
        given, wanted = one.given, one.text
        if not given or not wanted or given == strip_marks(given) or given.strip() == strip_marks(wanted):
            continue
        if len(given.split()) == len(wanted.split()):
            sets.setdefault(one.name, []).append((given, wanted))
    return sets


def measure(name: str, lines: Sequence[str]) -> SpellingResult:
    """Errors are put into the lines, which are right."""
    result = SpellingResult(name)
    for given, wanted, kinds in with_errors(lines):
        _count(result, given, wanted, kinds)
    result.alarms = sum(len(binhdan.spell(line).misspellings) for line in lines)
    return result


def measure_pairs(name: str, pairs: Sequence[tuple[str, str]]) -> SpellingResult:
    result = SpellingResult(name)
    for given, wanted in pairs:
        _count(result, given, wanted, None)
    return result


def _count(result: SpellingResult, given: str, wanted: str, kinds: Sequence[str] | None) -> None:
    got = binhdan.spell(given).text.split()
    for i, (before, after, right) in enumerate(zip(given.split(), got, wanted.split(), strict=True)):
        error, reported = before != right, before != after
        result.words += 1
        result.errors += error
        result.reported += reported
        result.found += error and reported
        result.corrected += error and after == right
        if kinds is not None and error:
            kind = kinds[i]
            result.kinds[kind] = result.kinds.get(kind, 0) + 1
            result.found_kinds[kind] = result.found_kinds.get(kind, 0) + reported


def table(results: Sequence[SpellingResult]) -> str:
    """In Markdown, and a line with the recall by kind of error."""
    header = "text | words | errors | precision | recall | corrected | reports in 10,000 right words"
    rows = [header, " | ".join(["---"] * 7)]
    for one in results:
        shares = [_share(one.found, one.reported), _share(one.found, one.errors)]
        shares.append(_share(one.corrected, one.errors))
        alarms = f"{1e4 * one.alarms / max(one.words, 1):.1f}" if one.alarms is not None else "–"
        rows.append(" | ".join([one.name, f"{one.words:,}", f"{one.errors:,}", *shares, alarms]))
    kinds, found = Counter[str](), Counter[str]()
    for one in results:
        kinds.update(one.kinds)
        found.update(one.found_kinds)
    by_kind = "; ".join(f"{kind} {_share(found[kind], kinds[kind])}" for kind in KINDS if kinds[kind])
    return "".join(f"| {row} |\n" for row in rows) + f"\nRecall by kind of error: {by_kind}.\n"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "–"


def write_page(page: Path, results: Sequence[SpellingResult]) -> None:
    """Replaces the results in a page. Raises BadFormatError if it has no place for them."""
    replace_block(page, _BLOCK, table(results), "of spelling results")
