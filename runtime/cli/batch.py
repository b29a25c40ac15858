"""`binhdan batch`: a file of requests in OpenAI's batch format."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Optional

import typer

from binhdan.runtime.cli import console
from binhdan.runtime.cli import options as shared
from binhdan.runtime.errors import BinhdanError
from binhdan.runtime.server.accounting import logs
from binhdan.runtime.server.batch import Counts, run_batch
from binhdan.runtime.server.config import load
from binhdan.runtime.server.models.pool import check_models

_NOTE_SECONDS = 10.0  # between two lines of progress

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def batch(
    source: Annotated[Path, typer.Argument(metavar="IN.jsonl", help="Requests in OpenAI's batch format.")],
    output: Annotated[
        Path, typer.Argument(metavar="OUT.jsonl", help="Results; those that it has are not run again.")
    ],
    config: Annotated[
        Optional[Path],  # noqa: UP045  typer reads it at run time
        typer.Option(metavar="FILE", help="TOML file with settings, as for binhdan serve."),
    ] = None,
    models: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--model", "-m", metavar="[NAME=]FILE", help="Model; NAME is the requests' model."),
    ] = None,
    threads: shared.Threads = None,
    context: shared.Context = None,
    max_concurrent: Annotated[int, typer.Option(min=1, help="Max requests that run together.")] = 16,
    ray: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="ADDRESS", help="Run on a Ray cluster: auto, local, or HOST:PORT."),
    ] = None,
) -> None:
    """Run a file of requests in OpenAI's batch format.

    A line is {"custom_id": …, "url": "/v1/chat/completions", "body": {…}}. Each request adds a line to the
    output, in the order in which they end. Run the same command again after an interruption: it continues.
    """
    given = {"models": models, "threads": threads, "context": context, "max_sequences": max_concurrent}
    settings = load(config, os.environ, {name: value for name, value in given.items() if value})
    check_models(settings.files())
    logs.configure("error")
    begin = last = time.monotonic()

    def progress(counts: Counts) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _NOTE_SECONDS:
            last = now
            done = counts.succeeded + counts.failed
            console.note(f"{done:,} requests, {done / (now - begin):.1f} per second")

    if ray is None:
        counts = asyncio.run(run_batch(settings, source, output, max_concurrent, progress))
    else:
        counts = _on_ray()(settings, source, output, max_concurrent, ray, progress)
    console.note(
        f"{counts.succeeded:,} answers and {counts.failed:,} errors in {time.monotonic() - begin:.1f} s; "
        f"{counts.skipped:,} requests were done before"
    )


def _on_ray() -> Callable[..., Counts]:
    try:
        from binhdan.runtime.server.ray.batch import run_batch_on_ray
    except ImportError as error:
        raise BinhdanError(f"--ray needs Ray Data: pip install 'binhdan[ray]' ({error})") from None
    return run_batch_on_ray
