"""`binhdan bench run`."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

import binhdan
from binhdan.bench.common.options import Isa, Model, ServerKey, Threads
from binhdan.bench.common.output import progress_after

if TYPE_CHECKING:
    from binhdan.bench.suite.result import Prefix
    from binhdan.runtime.cost.cost_model import CostModel


def run(
    model: Model = None,
    threads: Threads = None,
    isa: Isa = None,
    url: Annotated[
        str | None,
        typer.Option(help="Measure a server with OpenAI's API, not this process."),
    ] = None,
    api_key: ServerKey = None,
    workloads: Annotated[
        list[str] | None,
        typer.Option("--workload", help="Name or .jsonl file; repeatable. Default: all six."),
    ] = None,
    users: Annotated[
        list[int] | None, typer.Option(help="Users at once; repeatable. Default: 1, 2, 4, 8 and 16.")
    ] = None,
    open_load: Annotated[
        float, typer.Option(help="Rate of random requests, as a share of the capacity; 0: none.")
    ] = 0.7,
    prefix: Annotated[str, typer.Option(help="cold (no prefix in the cache), warm or both.")] = "both",
    rounds: Annotated[int, typer.Option(help="Counted rounds: one trial of each case per round.")] = 10,
    warm_up: Annotated[int, typer.Option(help="Uncounted rounds before them.")] = 1,
    seconds: Annotated[
        float,
        typer.Option(help="Time budget; cases that do not fit are left out and listed. 0: none."),
    ] = 200.0,
    watts: Annotated[
        float | None, typer.Option(help="Declared power, used instead of a meter and marked as declared.")
    ] = None,
    board: Annotated[str, typer.Option(help="Board for the cost: a name or a .toml file.")] = "unknown",
    tariff: Annotated[str, typer.Option(help="Electricity: a name or a .toml file.")] = "evn-household",
    utilisation: Annotated[float, typer.Option(help="Share of its time that the board computes.")] = 0.3,
    name: Annotated[str | None, typer.Option(help="Name of the result in tables.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the case order and the request times.")] = 0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Result file. Default: binhdan-bench-TIME.json.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the JSON instead of the table.")] = False,
) -> None:
    """Measure this machine with Vietnamese workloads; write a JSON file and print a table."""
    from binhdan.bench.suite.cases import Settings
    from binhdan.bench.suite.result import save_result
    from binhdan.bench.suite.run import RunOptions
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
    options = RunOptions(
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
    with progress_after("probe and warm-up") as progress:
        result = run_suite(options, progress)
    save_result(result, path)
    typer.echo(result.model_dump_json() if as_json else result_table(result))
    typer.echo(f"{path}", err=True)


def _cost(board: str, tariff: str, utilisation: float) -> CostModel:
    from binhdan.runtime.cost.cost_model import CostModel
    from binhdan.runtime.cost.figures import load_board, load_tariff

    return CostModel(board=load_board(board), tariff=load_tariff(tariff), utilisation=utilisation)
