"""`binhdan bench plan`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

import binhdan
from binhdan.bench.common.output import progress, to_json


def plan(
    result: Annotated[
        Path,
        typer.Option(
            help="Measurements of one board: JSON of 'bench', 'bench load run' or 'bench load compare'."
        ),
    ],
    users: Annotated[int, typer.Option(help="Number of users.")] = 100_000_000,
    answers_per_day: Annotated[float, typer.Option(help="Answers per user and day.")] = 3.0,
    p95: Annotated[float, typer.Option(help="Limit of the p95 latency at the peak, in seconds.")] = 15.0,
    peak_factor: Annotated[
        float | None,
        typer.Option(help="Requests of the busiest hour divided by the mean; 0: as given by --hours."),
    ] = None,
    hours: Annotated[
        str | None, typer.Option(help="24 weights from 0:00, separated by commas. Default: an assumed day.")
    ] = None,
    board: Annotated[
        str | None, typer.Option(help="The measured board: a built-in name, or a .toml file.")
    ] = None,
    boards: Annotated[
        int,
        typer.Option(min=1, help="Boards that gave the result together, such as the engines of a cluster."),
    ] = 1,
    tariff: Annotated[
        str, typer.Option(help="Tariff of electricity: a built-in name, or a .toml file.")
    ] = "evn-business",
    pick: Annotated[
        str | None, typer.Option(help="Server of a comparison, or workload of a suite. Default: the first.")
    ] = None,
    spread: Annotated[
        float,
        typer.Option(help="Coefficient of variation of the work, in addition to the measured one."),
    ] = 0.5,
    spare: Annotated[float, typer.Option(help="Spare boards per needed board.")] = 0.05,
    cell: Annotated[int, typer.Option(help="Boards per cell: behind one load balancer.")] = 16,
    max_load: Annotated[
        float, typer.Option(help="Highest share of a full board's answer rate, at the peak.")
    ] = 0.85,
    pue: Annotated[float, typer.Option(help="Energy of the site divided by the energy of the boards.")] = 1.0,
    network: Annotated[float, typer.Option(help="Network cost in đồng per board and month.")] = 0.0,
    staff: Annotated[float, typer.Option(help="Staff cost in đồng per board and month.")] = 0.0,
    answers: Annotated[int, typer.Option(help="Answers per simulation.")] = 4_000,
    seeds: Annotated[int, typer.Option(help="Simulations per case.")] = 3,
    seed: Annotated[int, typer.Option(help="Seed of the first simulation.")] = 0,
    sensitivity: Annotated[
        bool, typer.Option(help="Add variants of the plan with one changed input each.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Plan boards, watts and đồng for a country from measurements of one board or of a cluster
    (needs 'binhdan[bench]')."""
    from binhdan.bench.plan.demand import PEAK_FACTOR, VIETNAM, Demand
    from binhdan.bench.plan.plan import Scenario, count_steps, make_plan
    from binhdan.bench.plan.service import load_service
    from binhdan.bench.plan.tables import plan_table
    from binhdan.runtime.cost.cost_model import DEFAULT_BOARD, CostModel
    from binhdan.runtime.cost.figures import load_board, load_tariff, tariff_names

    cost = CostModel(
        board=load_board(board or DEFAULT_BOARD),
        tariff=load_tariff(tariff),
        pue=pue,
        network_vnd_per_month=network,
        staff_vnd_per_month=staff,
    )
    demand = Demand(
        users=users,
        answers_per_day=answers_per_day,
        shape=VIETNAM if hours is None else _weights(hours),
        peak_factor=PEAK_FACTOR if peak_factor is None else peak_factor or None,
    )
    scenario = Scenario(
        demand=demand,
        service=load_service(result, pick).per_board(boards),
        cost=cost,
        p95_s=p95,
        spread=spread,
        spare=spare,
        cell=cell,
        max_load=max_load,
        answers=answers,
        seeds=seeds,
        seed=seed,
    )
    tariffs = [load_tariff(name) for name in tariff_names()]
    with progress(count_steps(scenario, tariffs, sensitivity)) as step:
        made = make_plan(scenario, tariffs=tariffs, sensitivity=sensitivity, progress=step)
    typer.echo(to_json(asdict(made)) if as_json else plan_table(made))


def _weights(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError as error:
        raise binhdan.InvalidArgumentError(
            f"--hours: expected 24 numbers separated by commas, got {text[:80]!r}"
        ) from error
