"""`binhdan tokenize`: what a model's vocabulary makes of a text."""

from __future__ import annotations

import json
import os
from typing import Annotated

import typer

from binhdan.runtime.cli import console
from binhdan.runtime.cli import options as shared
from binhdan.runtime.client.model import load


def tokenize(
    text: Annotated[str, typer.Argument(help="The text; - reads standard input, byte for byte.")] = "-",
    model: shared.Model = None,
    special: Annotated[
        bool, typer.Option("--special", help="Read control tokens, and add BOS and EOS.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show the tokens of a text, exactly: nothing is normalised."""
    data = console.read_input() if text == "-" else os.fsencode(text)
    with load(model) as loaded:
        tokens = loaded.tokenize(data, add_special=special, parse_special=special)
        pieces = [loaded.detokenize((token,), special=True) for token in tokens]
    if as_json:
        console.write(json.dumps({"tokens": tokens, "pieces": pieces}, ensure_ascii=False) + "\n")
        return
    width = len(str(max(tokens, default=0)))
    lines = [
        f"{token:>{width}}  {json.dumps(piece, ensure_ascii=False)}\n"
        for token, piece in zip(tokens, pieces, strict=True)
    ]
    console.write("".join(lines))
    console.note(f"{len(tokens)} tokens, {len(data)} bytes")
