"""`binhdan tokenize`: the tokens of a text."""

from __future__ import annotations

import json
import os
from typing import Annotated

import typer

from binhdan.runtime.cli import console
from binhdan.runtime.cli import options as shared
from binhdan.runtime.client.model import load

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def tokenize(
    text: Annotated[str, typer.Argument(help="The text; - reads the bytes of standard input.")] = "-",
    model: shared.Model = None,
    special: Annotated[
        bool, typer.Option("--special", help="Recognise control tokens, and add BOS and EOS.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show the tokens of a text, without normalisation."""
    data = console.read_input() if text == "-" else os.fsencode(text)
    with load(model) as loaded:
        tokens = loaded.tokenize(data, add_special=special, parse_special=special)
        pieces = [loaded.detokenize((token,), special=True) for token in tokens]
    if as_json:
        console.write(json.dumps({"tokens": tokens, "pieces": pieces}, ensure_ascii=False) + "\n")
        return
    # Not a rich table: a long text has millions of tokens.
    width = len(str(max(tokens, default=0)))
    lines = [
        f"{token:>{width}}  {json.dumps(piece, ensure_ascii=False)}\n"
        for token, piece in zip(tokens, pieces, strict=True)
    ]
    console.write("".join(lines))
    console.note(f"{len(tokens)} tokens, {len(data)} bytes")
