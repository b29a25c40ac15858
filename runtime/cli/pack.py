"""`binhdan pack`: packs the weights of a model into a file beside it."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from binhdan.runtime.cli import console
from binhdan.runtime.client.model import find_model
from binhdan.runtime.ffi import library

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def pack(
    file: Annotated[str, typer.Argument(help="GGUF file, or org/name after binhdan pull.")],
) -> None:
    """Prepare a model for a fast start, in a file beside it.

    The next start maps the weights of FILE.pack instead of packing them.

    All kernel tables and processors of the same byte order read the same file: it can be made on another
    machine and copied with the model (cp -p: the time of the model file counts). A model file that changes
    makes it invalid; then it is ignored, with a warning.
    """
    path = str(find_model(file))
    library().pack_model(path)
    output = path + ".pack"
    console.write(f"{output}: {os.path.getsize(output):,} bytes\n")
