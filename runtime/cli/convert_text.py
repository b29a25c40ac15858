"""`binhdan convert-text`: changes the encoding of Vietnamese text."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Optional, cast

import typer

from binhdan.runtime.cli import console
from binhdan.runtime.client import encodings
from binhdan.runtime.client.encodings import Encoding
from binhdan.runtime.errors import InvalidArgumentError

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(name="convert-text")
def convert_text(
    file: Annotated[Optional[Path], typer.Argument(help="A text; none reads standard input.")] = None,  # noqa: UP045
    source: Annotated[
        str, typer.Option("--from", help="utf-8, utf-16, tcvn3, vni, viqr, or auto to recognise it.")
    ] = "auto",
    target: Annotated[str, typer.Option("--to", help="utf-8, utf-16, tcvn3, vni or viqr.")] = "utf-8",
) -> None:
    """Change the encoding of Vietnamese text, and nothing else.

    TCVN3 and VNI are also found as UTF-8 text with Western letters ("ViÖt Nam"). A capital with a tone is a
    small letter in TCVN3, which has no other.
    """
    if source != "auto":
        encodings.check_encoding("from", source)
    encodings.check_encoding("to", target)
    with console.naming(file, missing="; expected a text file"):
        data = console.read_file(file)
        found = encodings.recognize(data) if source == "auto" else cast("Encoding", source)
        if found is None:
            raise InvalidArgumentError(
                "the encoding cannot be recognised; name it with --from, such as --from tcvn3"
            )
        if source == "auto":
            console.note(f"{console.file_name(file)}: {found}")
        converted = encodings.encode(encodings.decode(data, found), cast("Encoding", target))
    sys.stdout.buffer.write(converted)
    sys.stdout.buffer.flush()
