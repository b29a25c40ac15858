"""`binhdan pull`: a model file from a Hugging Face hub."""

from __future__ import annotations

from typing import Annotated

import typer

from binhdan.runtime.cli import console


def pull(
    name: Annotated[str, typer.Argument(metavar="ORG/NAME[:FILE]", help="Repository, and what of it.")],
) -> None:
    """Fetch a model from a Hugging Face repository into the local cache.

    Goes on where an interrupted download stopped, and checks the checksum. HF_ENDPOINT, HF_HOME, HF_TOKEN and
    HF_HUB_OFFLINE are honoured. Prints where the file lies.
    """
    from binhdan.runtime.client import hub

    console.write(f"{hub.pull(name)}\n")
