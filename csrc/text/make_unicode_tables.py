"""Writes unicode_tables.inc. Run it in this folder: python make_unicode_tables.py

Uses unicodedata2 (pip install unicodedata2) when it is there, because it follows Unicode closer than an
older Python's own unicodedata. unicode_tables.h and the comments written here say what the tables hold.
Lower case comes from Python's own tables, because unicodedata2 has no case mappings.
"""

from __future__ import annotations

import sys
import unicodedata as python_unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

try:
    import unicodedata2 as unicodedata  # type: ignore[import-not-found, unused-ignore]
except ImportError:
    unicodedata = python_unicodedata

CODEPOINTS = range(0x110000)
HANGUL = range(0xAC00, 0xAC00 + 11172)  # nfc.cpp composes and decomposes these by arithmetic
# In the order of kCategoryNames in unicode.cpp.
CATEGORIES = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Cs Co Cn"


def category_runs() -> Iterator[str]:
    """Where the general category changes: first code point << 5 | category."""
    last = -1
    for c in CODEPOINTS:
        now = CATEGORIES.index(unicodedata.category(chr(c))) // 3  # two letters and a space each
        if now != last:
            yield f"{c << 5 | now:#x}"
            last = now


def canonical_pairs() -> dict[int, tuple[int, int]]:
    """Canonical decompositions of one step; (x, 0) for singletons."""
    pairs = {}
    for c in CODEPOINTS:
        mapping = unicodedata.decomposition(chr(c))
        if mapping and not mapping.startswith("<"):
            first, *rest = (int(part, 16) for part in mapping.split())
            pairs[c] = (first, rest[0] if rest else 0)
    return pairs


def composes(c: int, pair: tuple[int, int]) -> bool:
    """Whether NFC composes c from its pair: false when c is excluded from composition."""
    return pair[1] != 0 and unicodedata.normalize("NFC", chr(c)) == chr(c)


def active_runs(pairs: dict[int, tuple[int, int]]) -> Iterator[str]:
    """Runs of code points that NFC may change or move, with their combining class."""
    seconds = {pair[1] for c, pair in pairs.items() if composes(c, pair)}
    jamo = {*range(0x1161, 0x1176), *range(0x11A8, 0x11C3)}

    def combining(c: int) -> int:
        changes = unicodedata.normalize("NFC", chr(c)) != chr(c)
        ccc = unicodedata.combining(chr(c))
        return ccc if ccc or changes or c in seconds or c in jamo else -1

    start, last = 0, -1
    for c in CODEPOINTS:
        now = combining(c)
        if now != last:
            if last >= 0:
                yield f"{{{start:#x}, {c - 1:#x}, {last}}}"
            start, last = c, now


def lowercase_runs() -> Iterator[str]:
    """Runs of capitals with the same distance to their small letters: first, last, step, distance."""
    runs: list[list[int]] = []
    for c in CODEPOINTS:
        small = chr(c).lower()
        if small == chr(c) or len(small) > 1:  # two characters: U+0130, see to_lower in unicode.cpp
            continue
        delta = ord(small) - c
        first, last, step, distance = runs[-1] if runs else [0, 0, 0, 0]
        if distance == delta and ((first == last and c - last <= 2) or c - last == step):
            runs[-1] = [first, c, c - last, delta]
        else:
            runs.append([c, c, 1, delta])
    return (f"{{{first:#x}, {last:#x}, {step}, {delta}}}" for first, last, step, delta in runs)


def table(declaration: str, comment: str, entries: Iterable[str]) -> str:
    lines, line = [], " "
    for entry in entries:
        if len(line) + len(entry) + 2 > 110:
            lines.append(line)
            line = " "
        line += f" {entry},"
    return "\n".join([f"// {comment}", f"inline constexpr {declaration}[] = {{", *lines, line, "};", ""])


def main() -> None:
    pairs = {c: pair for c, pair in canonical_pairs().items() if c not in HANGUL}
    order = sorted(pairs)
    composing = sorted((pairs[c], i) for i, c in enumerate(order) if composes(c, pairs[c]))
    parts = [
        f"// Made by make_unicode_tables.py from Unicode {unicodedata.unidata_version}. Do not edit.\n",
        table(
            "uint32_t kCategoryRuns",
            "First code point << 5 | general category, an index of kCategoryNames (unicode.cpp).",
            category_runs(),
        ),
        table(
            "ActiveRun kActiveRuns",
            "First, last, combining class of what NFC may change or move.",
            active_runs(pairs),
        ),
        table(
            "Decomposition kDecompositions",
            "Code point and its canonical pair; second 0: a singleton.",
            (f"{{{c:#x}, {pairs[c][0]:#x}, {pairs[c][1]:#x}}}" for c in order),
        ),
        table(
            "uint16_t kCompositions",
            "Indices into kDecompositions of what composes, by (first, second).",
            (str(i) for _, i in composing),
        ),
        table(
            "LowercaseRun kLowercaseRuns",
            "First and last capital, step, distance to the small letter (Unicode "
            f"{python_unicodedata.unidata_version}).",
            lowercase_runs(),
        ),
    ]
    Path(__file__).with_name("unicode_tables.inc").write_text(
        "\n".join(parts), encoding="ascii", newline="\n"
    )
    print(f"Unicode {unicodedata.unidata_version}", file=sys.stderr)


if __name__ == "__main__":
    main()
