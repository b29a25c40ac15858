"""runtime/client/documents.py: the text of attached files."""

from __future__ import annotations

import io
import zipfile

import pytest

from binhdan.runtime.client.documents import MAX_CHARACTERS, read_document
from binhdan.runtime.client.encodings import encode
from binhdan.runtime.errors import BadFormatError, TooLargeError

WORD = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
TEXT = "Đường phố Hà Nội rất đông người, trời hôm nay thật đẹp.\n"


def docx(body: str, name: str = "word/document.xml", before: str = "") -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, f"{before}<w:document {WORD}><w:body>{body}</w:body></w:document>")
    return data.getvalue()


def paragraph(text: str) -> str:
    return f"<w:p><w:r><w:t xml:space='preserve'>{text}</w:t></w:r></w:p>"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "tcvn3", "vni"])
def test_texts_in_the_encodings_of_vietnamese(encoding: str) -> None:
    assert read_document(encode(TEXT, encoding)).lower() == TEXT.lower()  # type: ignore[arg-type]


def test_ascii_stays_as_it_is() -> None:
    table = "a,b\n" + "x^2,y'1\n" * 50
    assert read_document(table.encode()) == table


def test_a_word_file() -> None:
    cells = f"<w:tc>{paragraph('tên')}</w:tc><w:tc>{paragraph('tuổi')}</w:tc>"
    deleted = "<w:del><w:r><w:delText>bỏ</w:delText></w:r></w:del>"
    body = paragraph("Kính &amp; gửi") + f"<w:tbl><w:tr>{cells}</w:tr></w:tbl>" + f"<w:p>{deleted}</w:p>"
    lines = "<w:p><w:r><w:t>a</w:t><w:tab/><w:t>b</w:t><w:br/><w:t>c</w:t></w:r></w:p>"
    assert read_document(docx(body + lines)) == "Kính & gửi\ntên \ttuổi \t\n\na\tb\nc\n"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" \n",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        docx(paragraph("a"), name="xl/workbook.xml"),
        docx("<w:p>"),
        docx(paragraph("a"))[:60],
        b"PK\x03\x04" + bytes(100),
        docx(paragraph("&a;"), before="<!DOCTYPE x [<!ENTITY a 'b'>]>"),
    ],
    ids=["empty", "blank", "png", "xlsx", "bad xml", "cut", "bad zip", "entity"],
)
def test_other_files_are_refused(data: bytes) -> None:
    with pytest.raises(BadFormatError, match=r"expected|word/document\.xml"):
        read_document(data)


def test_limits() -> None:
    with pytest.raises(TooLargeError, match="at most 400,000 characters, got 400,001"):
        read_document(b"a" * (MAX_CHARACTERS + 1))
    with pytest.raises(TooLargeError, match="at most"):
        read_document(docx(paragraph("a" * (33 << 20))))
