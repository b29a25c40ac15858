"""Makes the texts of quantize/data/texts from collections of free Vietnamese text.

    python quantize/evaluate/make_texts.py --train TRAIN.jsonl[.xz] ... --valid VALID.jsonl ...

A line of a collection is JSON: ``{"source", "text"}`` and, in some, ``"register"`` and ``"licence"``. The
calibration text is made of documents of --train and of quantize/data/texts/written.txt, the evaluation text
of documents of --valid. The calibration text has only documents that are in the public domain, not under
copyright or CC0. The evaluation text also has parts of Wikipedia (CC BY-SA 4.0).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import lzma
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from binhdan.runtime.client.masked_restore import strip_marks

FOLDER: Final = Path(__file__).parents[1] / "data" / "texts"
# Bytes of each register in the two texts. A register is a source of the first collection or a register of the
# second, or, with "bare:", such a text without diacritics.
CALIBRATION: Final = {
    "law": 22_000, "literature-prose": 24_000, "common-voice": 16_000, "course-mt": 7_000,
    "public-information": 6_000, "kieu": 5_000, "literature-verse": 4_000, "bare:literature-prose": 3_000,
    "bare:common-voice": 4_000, "bare:law": 2_000,
}  # fmt: skip
EVALUATION: Final = {
    "viwiki": 22_000, "literature-prose": 14_000, "common-voice": 6_000, "literature-verse": 4_000,
}  # fmt: skip
_MAX_PASSAGE: Final = 900  # bytes taken from one place of a document
_FREE: Final = re.compile(r"public domain|CC0")
_BAD_LINE: Final = re.compile(
    r"https?:|[�|{}<>=*_#]|\[|\.\.\.\.|e-?book|epub|kiểm tra chính tả|sưu tầm", re.IGNORECASE
)


def documents(files: Iterable[Path], registers: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(register, text) of the documents of these registers that may be copied."""
    for file in files:
        with (
            lzma.open(file, "rt", encoding="utf-8")
            if file.suffix == ".xz"
            else file.open(encoding="utf-8") as lines
        ):
            for line in lines:
                document = json.loads(line)
                register = document.get("register", document["source"])
                if register in registers and ("licence" not in document or _is_free(document["licence"])):
                    yield register, document["text"]


def _is_free(licence: str) -> bool:
    return bool(_FREE.search(licence)) and "collection" not in licence and "BY" not in licence


def passages(text: str, known: set[str]) -> Iterator[str]:
    """Passages of whole lines; lines that ``known`` contains, and lines that are not prose, are left out."""
    passage: list[str] = []
    size = 0
    for line in map(str.strip, text.splitlines()):
        if len(line) < 12 or _BAD_LINE.search(line) or line in known or line.isupper():
            continue
        if size + len(line.encode()) > _MAX_PASSAGE and passage:
            yield "\n".join(passage)
            passage, size = [], 0
        if len(line.encode()) <= _MAX_PASSAGE:
            passage.append(line)
            size += len(line.encode())
    if passage:
        yield "\n".join(passage)


def choose(register: str, size: int, found: list[str], used: set[str]) -> Iterator[str]:
    """Passages of about ``size`` bytes, in the order of a hash, so that they come from everywhere."""
    for passage in sorted(found, key=lambda text: hashlib.sha256((register + text).encode()).digest()):
        if size <= 0:
            return
        if passage not in used:
            used.add(passage)
            size -= len(passage.encode())
            yield passage


def make_text(files: list[Path], sizes: dict[str, int], known: set[str]) -> list[str]:
    found: dict[str, list[str]] = {}
    for register, text in documents(files, {name.removeprefix("bare:") for name in sizes}):
        found.setdefault(register, []).extend(passages(text, known))
    used: set[str] = set()
    parts: list[str] = []
    for register, size in sizes.items():
        bare = register.startswith("bare:")
        for passage in choose(register, size, found.get(register.removeprefix("bare:"), []), used):
            parts.append(strip_marks(passage) if bare else passage)
    return parts


def mix(parts: list[str]) -> str:
    """The parts in the order of a hash: every window has several registers."""
    ordered = sorted(parts, key=lambda text: hashlib.sha256(text.encode()).digest())
    return "\n\n".join(ordered) + "\n"


def written() -> list[str]:
    """The lines of written.txt in groups of four; code as a whole."""
    parts: list[str] = []
    for section in re.split(r"^# ", (FOLDER / "written.txt").read_text("utf-8"), flags=re.MULTILINE)[1:]:
        name, _, body = section.partition("\n")
        lines = body.strip("\n").split("\n")
        step = len(lines) if name == "code" else 4
        parts += ["\n".join(lines[begin : begin + step]) for begin in range(0, len(lines), step)]
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=Path, nargs="+", required=True)
    parser.add_argument("--valid", type=Path, nargs="+", required=True)
    options = parser.parse_args()
    known: set[str] = set()
    for file in options.valid:
        for line in file.read_text("utf-8").splitlines():
            known.update(map(str.strip, json.loads(line)["text"].splitlines()))
    calibration = make_text(options.train, CALIBRATION, known)
    (FOLDER / "calibration.txt").write_text(mix([*calibration, *written()]), "utf-8")
    (FOLDER / "evaluation.txt").write_text(mix(make_text(options.valid, EVALUATION, set())), "utf-8")


if __name__ == "__main__":
    main()
