"""`binhdan spell`: lists the misspelled words of Vietnamese text files."""

from __future__ import annotations

import sys
from typing import Annotated, cast

import typer

from binhdan.runtime.cli import console
from binhdan.runtime.cli.options import TextFiles, TextKind
from binhdan.runtime.client.restore import check_options, format_of
from binhdan.runtime.client.spell import Spelling
from binhdan.runtime.client.spell import spell as find_misspellings
from binhdan.runtime.errors import BadFormatError
from binhdan.runtime.ffi import TextFormat

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def spell(
    files: TextFiles = None,
    format: TextKind = None,
    min_confidence: Annotated[
        float, typer.Option(min=0, max=1, help="Report a word whose best suggestion has this probability.")
    ] = 0.7,
    corrected: Annotated[
        bool, typer.Option("--corrected", help="Print the text with the first suggestions, not the list.")
    ] = False,
) -> None:
    """List the misspelled words of Vietnamese text that has its marks, with suggestions and probabilities.

    A line of the list: FILE:LINE:COLUMN: word: suggestions. Names and words of other languages stay.
    """
    check_options("keep", format or "text")
    for file in console.each_file(files):
        kind = cast("TextFormat", format) if format else format_of(file) if file else "text"
        with console.naming(file):
            text = _text(console.read_file(file))
            found = find_misspellings(text, format=kind, min_confidence=min_confidence)
        output = found.text if corrected else _list(found, text, console.file_name(file))
        sys.stdout.buffer.write(output.encode())
        sys.stdout.buffer.flush()


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadFormatError(
            f"expected UTF-8, found the byte 0x{data[error.start]:02x} at {error.start}:"
            " `binhdan convert-text` converts other encodings"
        ) from None


def _list(found: Spelling, text: str, name: str) -> str:
    lines, data, line, at = [], text.encode(), 1, 0
    for one in found.misspellings:
        line += data.count(b"\n", at, one.begin)
        at = one.begin
        column = len(data[data.rfind(b"\n", 0, at) + 1 : at].decode()) + 1
        forms = ", ".join(f"{form} {p:.1%}" for form, p in one.suggestions)
        lines.append(f"{name}:{line}:{column}: {one.word}: {forms}\n")
    return "".join(lines)
