"""`binhdan restore`: restores the diacritics of text files."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, Optional

import typer

from binhdan.runtime.cli import options as shared
from binhdan.runtime.client.model import load
from binhdan.runtime.client.restore import Restorer, syllables
from binhdan.runtime.errors import FileReadError

if TYPE_CHECKING:
    from binhdan.runtime.cost.cost_model import CostModel

_MAX_LINE = 1 << 20  # bytes


app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def restore(
    files: Annotated[
        Optional[list[Path]],  # noqa: UP045  typer reads it at run time
        typer.Argument(help="Text in UTF-8; none reads standard input.", show_default=False),
    ] = None,
    model: shared.Model = None,
    max_concurrent: Annotated[int, typer.Option(help="Max parts of the text in one batch.")] = 16,
    threads: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="Threads. [default: the usable cores; 1 for the embedded model]"),
    ] = None,
    stats: Annotated[
        bool, typer.Option("--stats", help="Print syllables per second and đồng to standard error.")
    ] = False,
    board: Annotated[
        str, typer.Option(help="Board for the cost: a name in runtime/cost/boards, or a .toml file.")
    ] = "unknown",
) -> None:
    """Restore the diacritics of Vietnamese text, and change nothing else.

    Each line is printed as soon as it and the lines before it are ready. Lines that are not UTF-8 do not
    change.
    """
    cost_of = _cost_model(board) if stats else None  # fail on an unknown board before starting
    begin, count = 0.0, 0
    # For a model as small as the embedded one, Python needs as much time for the masks as the engine for the
    # tokens, and a second thread of the engine competes with it.
    threads = threads or (1 if model is None else None)
    with load(model, threads=threads, max_sequences=max(max_concurrent, 1)) as loaded:

        async def run() -> None:
            nonlocal begin, count
            restorer = Restorer(loaded, max_concurrent)
            begin = time.monotonic()
            async for line in restorer.lines(_lines(files)):
                sys.stdout.buffer.write(line.encode("utf-8", "surrogateescape"))
                sys.stdout.buffer.flush()
                count += syllables(line)

        asyncio.run(run())
    if stats:
        seconds = time.monotonic() - begin
        speed = count / seconds if seconds else 0.0
        print(
            f"{count:,} syllables in {seconds:.1f} s: {speed:,.0f} a second{_cost(speed, cost_of)}",
            file=sys.stderr,
        )


async def _lines(files: list[Path] | None) -> AsyncIterator[str]:
    """Lines with their ends. A thread reads them, so that slow input does not delay answers."""
    sources: Sequence[Path | None] = files or [None]
    for file in sources:
        try:
            stream: BinaryIO = sys.stdin.buffer if file is None else file.open("rb")
            with stream:
                while data := await asyncio.to_thread(stream.readline, _MAX_LINE):
                    yield data.decode("utf-8", "surrogateescape")
        except OSError as error:
            raise FileReadError(f"{file or 'standard input'}: {os.strerror(error.errno or 0)}") from error


def _cost_model(board: str) -> CostModel | None:
    try:
        from binhdan.runtime.cost.cost_model import CostModel
        from binhdan.runtime.cost.figures import load_board
    except ModuleNotFoundError:
        return None
    return CostModel(board=load_board(board))


def _cost(speed: float, cost_of: CostModel | None) -> str:
    if cost_of is None:
        return "; to show the cost: pip install 'binhdan[server]'"
    if not speed:
        return ""
    cost = cost_of.answer(1e6 / speed)
    return f"; {cost.vnd:,.1f} đ for a million ({cost.basis})"
