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
        typer.Option(help="One board's answers: JSON of 'bench' or 'bench serve load' or 'compare'."),
    ],
    users: Annotated[int, typer.Option(help="People.")] = 100_000_000,
    answers_per_day: Annotated[float, typer.Option(help="Of each of them.")] = 3.0,
    p95: Annotated[float, typer.Option(help="Seconds to the end of 95 % of the answers at the peak.")] = 15.0,
    peak_factor: Annotated[
        float | None, typer.Option(help="The busiest hour's requests over the mean; 0: as the hours say.")
    ] = None,
    hours: Annotated[
        str | None, typer.Option(help="24 weights from 0:00, with commas; without it, an assumed day.")
    ] = None,
    board: Annotated[str | None, typer.Option(help="The measured one: ours, or a .toml file.")] = None,
    tariff: Annotated[str, typer.Option(help="Of electricity: ours, or a .toml file.")] = "evn-business",
    pick: Annotated[
        str | None, typer.Option(help="A comparison's server, or a workload; without it, the first.")
    ] = None,
    spread: Annotated[
        float,
        typer.Option(help="How much answers differ beyond the measured ones: deviation over mean."),
    ] = 0.5,
    spare: Annotated[float, typer.Option(help="Boards beyond those needed, per one needed.")] = 0.05,
    cell: Annotated[int, typer.Option(help="Boards behind one load balancer.")] = 16,
    most_load: Annotated[float, typer.Option(help="Of what a board can answer, at the peak.")] = 0.85,
    pue: Annotated[float, typer.Option(help="Energy of the site per energy of the boards.")] = 1.0,
    network: Annotated[float, typer.Option(help="Đồng a month for a board.")] = 0.0,
    staff: Annotated[float, typer.Option(help="Đồng a month for a board.")] = 0.0,
    answers: Annotated[int, typer.Option(help="Answers of a simulation.")] = 4_000,
    seeds: Annotated[int, typer.Option(help="Simulations of one case.")] = 3,
    seed: Annotated[int, typer.Option(help="The first one's.")] = 0,
    sensitivity: Annotated[bool, typer.Option(help="What else may be so, one thing at a time.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Boards, watts and đồng for a country, from one board's measured answers (needs 'binhdan[bench]')."""
    from binhdan.bench.plan.demand import PEAK_FACTOR, VIETNAM, Demand
    from binhdan.bench.plan.plan import Question, make, steps
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
    question = Question(
        demand=demand,
        service=load_service(result, pick),
        cost=cost,
        p95_s=p95,
        spread=spread,
        spare=spare,
        cell=cell,
        most_load=most_load,
        answers=answers,
        seeds=seeds,
        seed=seed,
    )
    others = [load_tariff(name) for name in tariff_names()]
    with progress(steps(question, others, sensitivity)) as step:
        made = make(question, tariffs=others, sensitivity=sensitivity, progress=step)
    typer.echo(to_json(asdict(made)) if as_json else plan_table(made))


def _weights(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError as error:
        raise binhdan.InvalidArgumentError("expected 24 numbers with commas for the hours") from error
