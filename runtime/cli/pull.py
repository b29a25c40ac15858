"""`binhdan pull`: downloads a model file from a Hugging Face hub."""

from __future__ import annotations

from typing import Annotated

import typer

from binhdan.runtime.cli import console

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def pull(
    name: Annotated[
        str, typer.Argument(metavar="ORG/NAME[:FILE]", help="Repository, and a file or quantization in it.")
    ],
) -> None:
    """Download a model from a Hugging Face repository to the local cache, and print its path.

    An interrupted download resumes. The checksum of the file is verified. HF_ENDPOINT, HF_HOME, HF_TOKEN and
    HF_HUB_OFFLINE apply.
    """
    from binhdan.runtime.client import hub

    console.write(f"{hub.pull(name)}\n")
