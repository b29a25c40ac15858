"""The text of an attached file: plain text in any encoding of Vietnamese, or a Word file (.docx)."""

from __future__ import annotations

import io
import zipfile
import zlib
from xml.parsers import expat

from binhdan.runtime.client import encodings
from binhdan.runtime.errors import BadFormatError, BinhdanError, TooLargeError

MAX_CHARACTERS = 400_000
_MAX_XML = 32 << 20  # bytes of the text of a Word file, which is compressed
_DOCUMENT = "word/document.xml"
_WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main "


def read_document(data: bytes) -> str:
    """The text of a file, at most MAX_CHARACTERS. The content decides on the format, not the name.

    Raises BadFormatError for a file that is neither text nor .docx, TooLargeError for a longer text.
    """
    text = _read_docx(data) if data.startswith(b"PK\x03\x04") else _read_text(data)
    if len(text) > MAX_CHARACTERS:
        raise TooLargeError(f"expected a text of at most {MAX_CHARACTERS:,} characters, got {len(text):,}")
    if not text.strip():
        raise BadFormatError("expected a file with text, got an empty one")
    return text


def _read_text(data: bytes) -> str:
    if b"\0" in data[:4096] and not data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise BadFormatError("expected a text file or a .docx file, got a file of another kind")
    found = encodings.recognize(data)
    if found is None:
        raise BadFormatError("expected a text file or a .docx file, got bytes in no known encoding")
    try:
        # VIQR is ASCII: a table of numbers or a program may look like it.
        return encodings.decode(data, "utf-8" if found == "viqr" else found)
    except BinhdanError as error:
        raise BadFormatError(f"expected a text file: {error}") from error


def _read_docx(data: bytes) -> str:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive, archive.open(_DOCUMENT) as file:
            xml = file.read(_MAX_XML + 1)
    except (KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise BadFormatError(f"expected a .docx file, got an archive without {_DOCUMENT}: {error}") from error
    if len(xml) > _MAX_XML:
        raise TooLargeError(f"expected a .docx file with at most {_MAX_XML >> 20} MiB of text, got more")
    reader = _DocxReader()
    try:
        reader.parser.Parse(xml, True)
    except expat.ExpatError as error:
        raise BadFormatError(f"{_DOCUMENT}: {error}") from error
    return "".join(reader.parts).strip() + "\n"


class _DocxReader:
    """Collects the text of word/document.xml: a line for each paragraph, and for each row of a table a line
    with tabs between its cells."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self._in_text = False
        self._cells = 0  # open cells of tables
        self.parser = expat.ParserCreate(namespace_separator=" ")
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text
        self.parser.StartDoctypeDeclHandler = self._refuse

    def _refuse(self, *_: object) -> None:
        # Entities of a document type could grow without end. Word writes none.
        raise BadFormatError(f"{_DOCUMENT}: expected no document type declaration")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        match name.removeprefix(_WORD):
            case "t":
                self._in_text = True
            case "tab":
                self.parts.append("\t")
            case "br" | "cr":
                self.parts.append("\n")
            case "tc":
                self._cells += 1

    def _end(self, name: str) -> None:
        match name.removeprefix(_WORD):
            case "t":
                self._in_text = False
            case "p":
                self.parts.append(" " if self._cells else "\n")
            case "tc":
                self._cells -= 1
                self.parts.append("\t")
            case "tr":
                self.parts.append("\n")

    def _text(self, data: str) -> None:
        if self._in_text:
            self.parts.append(data)
