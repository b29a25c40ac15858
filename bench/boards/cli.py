"""`binhdan bench predict` and `binhdan bench board`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

import binhdan
from binhdan.bench.common.options import Json, Model, Threads
from binhdan.bench.common.output import to_json
from binhdan.runtime.errors import InvalidArgumentError

Depth = Annotated[int, typer.Option(min=0, help="Tokens before a decoded token.")]


def predict(
    board: Annotated[
        str | None, typer.Option(help="Name or file of a board, such as raspberry-pi-5.")
    ] = None,
    here: Annotated[
        bool,
        typer.Option(
            "--here", help="Predict one thread of this machine from its kernels alone, and measure it too."
        ),
    ] = False,
    model: Model = None,
    depth: Depth = 256,
    as_json: Json = False,
) -> None:
    """Predict the speed of a model on a board from its data sheet: a model, not a measurement."""
    from binhdan.bench.boards.predict import board_rates, describe
    from binhdan.bench.boards.predict import predict as predict_speed
    from binhdan.bench.boards.work import work_of
    from binhdan.runtime.client.model import find_model
    from binhdan.runtime.cost.figures import load_board

    if (board is None) == (not here):
        raise InvalidArgumentError("expected either --board NAME or --here")
    path = str(find_model(model))
    if board is None:
        from binhdan.bench.boards.check import check, check_table

        with binhdan.load(path, threads=1, prefix_cache=False) as loaded:
            result = check(loaded, max(1, depth))
        typer.echo(to_json(asdict(result)) if as_json else check_table(result))
        return
    data = load_board(board)
    rates = board_rates(data)
    prediction = predict_speed(work_of(path), rates, depth)
    if as_json:
        typer.echo(to_json({"board": data.name, "model": path, "predicted": True} | asdict(prediction)))
    else:
        typer.echo(describe(path, data.name, prediction, rates.source))


def board(
    out: Annotated[Path, typer.Argument(help="Result file to write.", show_default=False)],
    model: Model = None,
    threads: Threads = None,
    minutes: Annotated[float, typer.Option(min=0.01, max=600, help="How long to measure.")] = 10.0,
) -> None:
    """Measure a board for some minutes: speed, temperature, clock and throttling. Needs no root.

    The result file contains the machine and the figures, and no names, addresses or paths.
    """
    from binhdan.bench.boards.measure import measure, write

    with binhdan.load(model, threads=threads, prefix_cache=False) as loaded:
        result = measure(loaded, minutes * 60, lambda line: typer.echo(line, err=True))
    write(out, result)
    typer.echo(f"{out}: {result.summary()}")
