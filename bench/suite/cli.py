"""`binhdan bench run` and what is done with its results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

import binhdan

if TYPE_CHECKING:
    from binhdan.bench.suite.result import Prefix
    from binhdan.runtime.cost.cost_model import CostModel

_Model = Annotated[
    str | None, typer.Option("--model", "-m", help="A GGUF file; without it, the embedded model.")
]
_Threads = Annotated[int | None, typer.Option(help="Without it, the cores this process may use.")]


def run(
    model: _Model = None,
    threads: _Threads = None,
    isa: Annotated[str | None, typer.Option(help="A kernel table; without it, the fastest.")] = None,
    url: Annotated[
        str | None, typer.Option(help="A server with OpenAI's API instead of the engine in this process.")
    ] = None,
    api_key: Annotated[
        str | None, typer.Option(envvar="BINHDAN_BENCH_API_KEY", help="Of a server that wants one.")
    ] = None,
    workloads: Annotated[
        list[str] | None,
        typer.Option("--workload", help="Name or .jsonl file, several times for several; else all six."),
    ] = None,
    users: Annotated[
        list[int] | None, typer.Option(help="Several times for several; else 1, 2, 4, 8 and 16.")
    ] = None,
    open_load: Annotated[
        float, typer.Option(help="Share of the capacity at which random requests come; 0: none.")
    ] = 0.7,
    prefix: Annotated[str, typer.Option(help="cold, warm or both.")] = "both",
    rounds: Annotated[int, typer.Option(help="That count.")] = 10,
    warm_up: Annotated[int, typer.Option(help="Rounds that do not count.")] = 1,
    seconds: Annotated[
        float, typer.Option(help="For the rounds; what does not fit is left out, and named. 0: no limit.")
    ] = 200.0,
    watts: Annotated[
        float | None, typer.Option(help="Declared, instead of a meter: energy that says so.")
    ] = None,
    board: Annotated[str, typer.Option(help="For the cost: a name or a .toml file.")] = "unknown",
    tariff: Annotated[str, typer.Option(help="Of electricity: a name or a .toml file.")] = "evn-household",
    utilisation: Annotated[float, typer.Option(help="The part of its time in which it computes.")] = 0.3,
    name: Annotated[str | None, typer.Option(help="How tables call the result.")] = None,
    seed: Annotated[int, typer.Option(help="Of the order and of the random times.")] = 0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A JSON file; else binhdan-bench-TIME.json here.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The JSON instead of the table.")] = False,
) -> None:
    """Run the suite: Vietnamese workloads, one user and many, cold and warm; a JSON file and a table."""
    from binhdan.bench.suite.cases import Settings
    from binhdan.bench.suite.result import save_result
    from binhdan.bench.suite.run import Order
    from binhdan.bench.suite.run import run as run_suite
    from binhdan.bench.suite.tables import result_table
    from binhdan.bench.suite.workloads import NAMES

    prefixes = {"both": ("cold", "warm"), "cold": ("cold",), "warm": ("warm",)}.get(prefix)
    if prefixes is None:
        raise binhdan.InvalidArgumentError(f"prefix: expected cold, warm or both, got {prefix}")
    settings = Settings(
        workloads=tuple(workloads or NAMES),
        users=tuple(users or (1, 2, 4, 8, 16)),
        prefixes=cast("tuple[Prefix, ...]", prefixes),
        open_load=open_load,
        rounds=rounds,
        warm_up_rounds=warm_up,
        budget_seconds=seconds or None,
        seed=seed,
    )
    path = output or Path(f"binhdan-bench-{datetime.now():%Y%m%d-%H%M%S}.json")
    order = Order(
        settings=settings,
        model=model,
        threads=threads,
        isa=isa,
        url=url,
        api_key=api_key,
        name=name,
        watts=watts,
        cost=_cost(board, tariff, utilisation),
    )
    with _bars() as progress:
        result = run_suite(order, progress)
    save_result(result, path)
    typer.echo(result.model_dump_json() if as_json else result_table(result))
    typer.echo(f"{path}", err=True)


def _cost(board: str, tariff: str, utilisation: float) -> CostModel:
    from binhdan.runtime.cost.cost_model import CostModel
    from binhdan.runtime.cost.figures import load_board, load_tariff

    return CostModel(board=load_board(board), tariff=load_tariff(tariff), utilisation=utilisation)


@contextmanager
def _bars() -> Iterator[Callable[[int], Callable[[int, str], None]]]:
    """Bars that are made when their length is known. Drawn between visits alone: a bar that draws itself
    would take its time from what is measured."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(
        console=console, transient=True, auto_refresh=False, disable=not console.is_terminal
    ) as bar:

        def make(total: int) -> Callable[[int, str], None]:
            task = bar.add_task("", total=total)

            def step(turn: int, name: str) -> None:
                bar.update(task, description=f"round {turn + 1}: {name}")
                bar.advance(task)
                bar.refresh()

            return step

        waiting = bar.add_task("probing the machine and warming up", total=None)
        bar.refresh()

        def begin(total: int) -> Callable[[int, str], None]:
            bar.remove_task(waiting)
            return make(total)

        yield begin
