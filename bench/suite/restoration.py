"""`binhdan bench restore`: how many words and sentences the restorer and other installed programs restore.

The text without its marks is the input. A word is a piece between spaces that has a letter; it is right if it
equals the piece of the text, case ignored. A syllable is a run of letters, of any language; here the place of
the tone (hòa, hoà) is ignored too. The interval of a share is 95 %, from the variance between lines (words of
a line are not independent).
"""

from __future__ import annotations

import json
import math
import re
import time
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from operator import eq
from pathlib import Path
from statistics import mean, median

import binhdan
from binhdan.bench.common.files import replace_block
from binhdan.runtime.client.masked_restore import strip_marks
from binhdan.runtime.errors import BadFormatError, FileReadError, InvalidArgumentError
from binhdan.runtime.reasons import file_reason

Restore = Callable[[str], str]
COMMAND = "binhdan bench restore"
_BLOCK = re.compile(r"(<!-- results of binhdan bench restore -->\n).*?(<!-- end results -->)", re.DOTALL)
_END = re.compile(r"[.!?…][\"'”’»)\]]*$")
_OPENING = "\"'“‘«([-–"
_PUNCTUATION = re.compile(r"[^\w\s]")
_LETTERS = re.compile(r"[^\W\d_]+")
_TONES = re.compile("[\u0300\u0301\u0303\u0309\u0323]")
_LINE, _TIMED = 20, 500  # words of a timed line, and the most lines
_Z = 1.96  # 95 % of a normal distribution


@dataclass(frozen=True, slots=True)
class Share:
    """Of words, in percent."""

    value: float
    low: float
    high: float
    sentences: float  # those that are wholly right, in percent
    syllables: float  # in percent


@dataclass(frozen=True, slots=True)
class Result:
    """One set of lines.

    peers: the share of each other program. fast: without the scorer. lower: lower case without punctuation.
    upper: capitals only.
    changed: lines that change although they have all their marks.
    """

    name: str
    lines: int
    words: int
    share: Share
    fast: Share
    lower: Share
    upper: Share
    changed: int
    words_per_s: float  # of processor time
    fast_words_per_s: float
    line_us: float  # median processor time of binhdan_restore for a line of 20 words
    fast_line_us: float
    peers: dict[str, Share]


@dataclass(frozen=True, slots=True)
class Record:
    """text: right lines of the set `name`. given: the same with errors, in a set of pairs."""

    name: str
    text: str
    given: str | None


def read_records(files: Iterable[Path]) -> list[Record]:
    """Lines of JSON: {"target", "input"} is a line of the set with the file's name, with or without "input";
    {"text", "register" or "source"} has lines of the set with the register's name. Raises FileReadError,
    BadFormatError."""
    found: list[Record] = []
    for file in files:
        try:
            records = file.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise FileReadError(file_reason(error, file)) from error
        for number, record in enumerate(records, 1):
            try:
                fields = json.loads(record)
                if "target" in fields:
                    one = Record(file.stem, fields["target"], fields.get("input"))
                else:
                    one = Record(fields.get("register") or fields["source"], fields["text"], None)
                if not isinstance(one.text, str) or not isinstance(one.given, str | None):
                    raise TypeError
            except (ValueError, KeyError, TypeError, AttributeError):
                raise BadFormatError(
                    f'{file}, line {number}: expected {{"target"}} or {{"text", "register" or "source"}}'
                ) from None
            found.append(one)
    return found


def lines_of(records: Iterable[Record]) -> dict[str, list[str]]:
    """The lines of each set that are not empty."""
    sets: dict[str, list[str]] = {}
    for one in records:
        lines = sets.setdefault(one.name, [])
        lines += [line.strip() for line in one.text.splitlines() if line.strip()]
    return sets


def installed_peers() -> dict[str, Restore]:
    """Other programs that restore diacritics, by name and version."""
    known = {
        "pyvi": ("pyvi.ViUtils", "add_accents"),
        "underthesea": ("underthesea", "restore_diacritics"),
    }
    found = {}
    for package, (module, function) in known.items():
        try:
            name = f"{package} {version(package)}"
            found[name] = getattr(import_module(module), function)
        except (PackageNotFoundError, ImportError, AttributeError):
            continue
    return found


def score(wanted: Sequence[str], got: Sequence[str]) -> Share:
    """Raises ValueError if there is no word."""
    pairs = list(zip(wanted, got, strict=True))
    counts = [_right(*pair) for pair in pairs]
    total = sum(words for _, words in counts)
    if not total:
        raise ValueError("expected at least 1 word, got none")
    share = sum(right for right, _ in counts) / total
    error = _Z * math.sqrt(sum((right - share * words) ** 2 for right, words in counts)) / total
    sentences = [sentence for pair in pairs for sentence in _sentences(*pair)]
    whole = sum(sentences) / len(sentences)
    low, high = max(share - error, 0), min(share + error, 1)
    return Share(*(100 * one for one in (share, low, high, whole, _syllables(pairs))))


def _syllables(pairs: Iterable[tuple[str, str]]) -> float:
    """The share of the syllables that are right."""
    right = total = 0
    for line, restored in pairs:
        wanted, got = map(_syllables_of, (line, restored))
        total += len(wanted)
        right += sum(map(eq, wanted, got)) if len(wanted) == len(got) else 0
    return right / total


def _syllables_of(text: str) -> list[tuple[str, list[str]]]:
    """Letters without tones, and tones."""
    words = (unicodedata.normalize("NFD", word) for word in _LETTERS.findall(text.lower()))
    return [(_TONES.sub("", word), _TONES.findall(word)) for word in words]


def _sentences(wanted: str, got: str) -> list[bool]:
    """Whether each sentence with a letter is wholly right. A sentence ends with . ! ? … before a capital."""
    words, found = wanted.split(), got.lower().split()
    out: list[bool] = []
    begin = 0
    for i, word in enumerate(words, 1):
        if i < len(words) and not (_END.search(word) and words[i].lstrip(_OPENING)[:1].isupper()):
            continue
        right, total = _right(" ".join(words[begin:i]), " ".join(found[begin:i]))
        if total:
            out.append(len(words) == len(found) and right == total)
        begin = i
    return out


def _right(wanted: str, got: str) -> tuple[int, int]:
    """Right words and all words of a line."""
    words, found = wanted.lower().split(), got.lower().split()
    if len(words) != len(found):
        found = [""] * len(words)
    pairs = [pair for pair in zip(words, found, strict=True) if any(map(str.isalpha, pair[0]))]
    return sum(a == b for a, b in pairs), len(pairs)


def measure(name: str, lines: Sequence[str], peers: Mapping[str, Restore]) -> Result:
    """Raises InvalidArgumentError for a set without words."""
    lines = [line for line in lines if any(map(str.isalpha, line))]
    if not lines:
        raise InvalidArgumentError(f"{name}: expected at least 1 line with a word")
    plain = [" ".join(_PUNCTUATION.sub(" ", line).lower().split()) for line in lines]
    bare = [strip_marks(line) for line in lines]
    binhdan.restore(bare[0])  # opens the file
    begin = time.process_time()
    restored = _all(bare)
    middle = time.process_time()
    fast = _all(bare, fast=True)
    end = time.process_time()
    count = sum(len(line.split()) for line in lines)
    changed = sum(a != b for a, b in zip(lines, _all(lines), strict=True))
    return Result(
        name=name,
        lines=len(lines),
        words=sum(_right(line, line)[1] for line in lines),
        share=score(lines, restored),
        fast=score(lines, fast),
        lower=score(plain, _all(map(strip_marks, plain))),
        upper=score(lines, _all(line.upper() for line in bare)),
        changed=changed,
        words_per_s=count / max(middle - begin, 1e-9),
        fast_words_per_s=count / max(end - middle, 1e-9),
        line_us=_line_us(bare, fast=False),
        fast_line_us=_line_us(bare, fast=True),
        peers={
            peer: score(lines, [_of_peer(restore, line) for line in bare]) for peer, restore in peers.items()
        },
    )


def _line_us(lines: Sequence[str], *, fast: bool) -> float:
    words = " ".join(lines).split()
    spans = range(0, min(len(words), _LINE * _TIMED), _LINE)
    times = []
    for line in (" ".join(words[i : i + _LINE]) for i in spans):
        begin = time.process_time_ns()
        binhdan.restore(line, fast=fast)
        times.append(time.process_time_ns() - begin)
    return median(times) / 1e3


def _of_peer(restore: Restore, line: str) -> str:
    """The line itself when the other program fails: pyvi 0.1.1 raises KeyError for some words."""
    try:
        return restore(line)
    except Exception:
        return line


def _all(lines: Iterable[str], *, fast: bool = False) -> list[str]:
    return binhdan.restore("\n".join(lines), fast=fast).split("\n")


def table(results: Sequence[Result]) -> str:
    """A table in Markdown."""
    peers = list(results[0].peers)
    header = [
        "text",
        "lines",
        "words",
        "words right (95 %)",
        "syllables right",
        "sentences right",
        "fast",
        "lower case",
        "capitals",
    ]
    rows = [[*header, "changed though right", *peers]]
    rows.append(["---"] * len(rows[0]))
    for result in results:
        share = f"**{result.share.value:.1f} %** ({result.share.low:.1f}–{result.share.high:.1f})"
        row = [result.name, f"{result.lines:,}", f"{result.words:,}", share]
        row += [
            f"{result.share.syllables:.1f} %",
            f"{result.share.sentences:.1f} %",
            f"{result.fast.value:.1f} %",
            f"{result.lower.value:.1f} %",
        ]
        row += [f"{result.upper.value:.1f} %", f"{result.changed:,}"]
        rows.append([*row, *(f"{result.peers[peer].value:.1f} %" for peer in peers)])
    words = sum(result.words for result in results)
    speeds = [
        words / sum(result.words / getattr(result, name) for result in results)
        for name in ("words_per_s", "fast_words_per_s")
    ]
    speed = f"{speeds[0]:,.0f} words per second of one core, {speeds[1]:,.0f} with `--fast`"
    speed += f", in one run of `{COMMAND}`.\n"
    speed += f"A line of {_LINE} words, called from Python, median of the processor time, mean of texts:"
    lines = [mean(getattr(result, name) for result in results) for name in ("line_us", "fast_line_us")]
    speed += f" {lines[0]:,.0f} µs, {lines[1]:,.0f} µs with `--fast`."
    return "".join(f"| {' | '.join(row)} |\n" for row in rows) + f"\n{speed}\n"


def write_page(page: Path, results: Sequence[Result]) -> None:
    """Replaces the results in a page. Raises BadFormatError if it has no place for them."""
    replace_block(page, _BLOCK, table(results), f"<!-- results of {COMMAND} -->")
