"""Reads documents: one JSON object per line, plain or compressed with xz.

{"source", "title", "text"}, or {"register", "text"}: then the register is the source, and there is no title.
"""

from __future__ import annotations

import json
import lzma
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from train_tiny_vi.text import sentences

_LINK = re.compile(r"\[\[(?:[^\[\]|]*\|)?([^\[\]|]*)\]\]")  # left-over wiki markup
_HUMAN = re.compile(r"\bsinh (?:ngày|năm|tháng|\d|khoảng)|\(\d{3,4} ?[–-] ?\d{3,4}\)")


@dataclass(frozen=True)
class Document:
    source: str
    title: str
    text: str

    @property
    def paragraphs(self) -> list[str]:
        return [line for line in self.text.split("\n") if line.strip()]

    def lead(self) -> str:
        """Returns the first sentence of an encyclopaedia article if it defines the title, else ""."""
        if self.source != "viwiki" or not self.paragraphs:
            return ""
        first = sentences(self.paragraphs[0])[0]
        defines = re.search(r"\blà\b|\bgồm\b|\bthuộc\b|\bnằm\b", first)
        return first if defines and first[-1] == "." and 30 <= len(first) <= 260 else ""

    def name(self) -> str:
        """Returns the title with the capitals of the text (titles are in lower case)."""
        found = re.search(re.escape(self.title), self.text[:2000], re.IGNORECASE)
        name = found.group() if found else self.title
        return name[:1].upper() + name[1:]

    def is_human(self) -> bool:
        return _HUMAN.search(self.text[:200]) is not None


def read_documents(paths: Iterable[Path]) -> Iterator[Document]:
    """Yields the documents of .jsonl or .jsonl.xz files. Raises ValueError for an invalid line."""
    for path in paths:
        open_text = lzma.open if path.suffix == ".xz" else open
        with open_text(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                try:
                    yield _document(json.loads(line))
                except (ValueError, KeyError, TypeError) as error:
                    raise ValueError(
                        f"{path.name}: line {number}: expected an object with the strings source, title and"
                        " text, or register and text"
                    ) from error


def _document(fields: dict[str, str]) -> Document:
    source, title = (fields["register"], "") if "register" in fields else (fields["source"], fields["title"])
    source, title, text = (unicodedata.normalize("NFC", value) for value in (source, title, fields["text"]))
    return Document(source, title, _LINK.sub(r"\1", text))
