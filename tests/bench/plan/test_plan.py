"""bench/plan/{plan,tables,cli}.py: the costs add up, and the command prints the plan."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import binhdan
from binhdan.bench.cli import app
from binhdan.bench.plan.demand import Demand
from binhdan.bench.plan.plan import SCHEMA, Scenario, count_steps, make_plan
from binhdan.bench.plan.service import Level, MeasuredService
from binhdan.bench.plan.tables import plan_table
from binhdan.runtime.cost.cost_model import MONTH, YEAR, CostModel
from binhdan.runtime.cost.figures import Board, Figure, Money, Tariff, load_board

MEASURED = Path(__file__).parents[3] / "examples" / "plan" / "measured.json"


def figure(value: float) -> Figure:
    return Figure(value=value, assumed=True)


BOARD = Board(
    name="by hand",
    price=Money(value=1_000_000, unit="VND", assumed=True),
    life_years=figure(5.0),
    idle_watts=figure(10.0),
    busy_watts=figure(20.0),
)
COST = CostModel(
    board=BOARD, tariff=Tariff(name="flat", assumed=True, vnd_per_kwh=3600.0, vat=figure(0.0)), pue=1.5
)
SERVICE = MeasuredService(
    server="ours",
    model="tiny.gguf",
    machine="a board",
    answer_tokens=128,
    levels=(Level(1, 0.5, (2.0,)), Level(8, 2.0, (4.0,))),
)
SCENARIO = Scenario(
    demand=Demand(users=1_000_000, answers_per_day=8.64),
    service=SERVICE,
    cost=COST,
    p95_s=9.0,
    cell=4,
    answers=500,
    seeds=2,
)


def test_the_bill_of_a_day() -> None:
    """Boards, watts and đồng, calculated by hand from the simulated hours."""
    plan = make_plan(SCENARIO, sensitivity=False)
    assert (plan.mean_rate, plan.peak_rate) == pytest.approx((100.0, 200.0))
    assert plan.boards >= plan.min_boards == 118  # 200 / (0.85 * 2)
    assert plan.spare_boards == -(-plan.boards // 20) and plan.cells == -(-plan.boards // 4)
    assert plan.latency_peak_p95_s.median <= 9.0
    boards = plan.boards + plan.spare_boards
    assert plan.capital_vnd == pytest.approx(1e6 * boards)

    per_day = 8_640_000
    busy_hours = sum(hour.busy for hour in plan.hours) * plan.boards  # board-hours of a day
    assert plan.utilisation_mean == pytest.approx(busy_hours / 24 / boards)
    idle_hours = 24 * boards - busy_hours
    kwh = 1.5 * (20 * busy_hours + 10 * idle_hours) / 1000
    assert plan.megawatts_mean == pytest.approx(kwh / 24 / 1000)
    assert plan.kwh_per_1000 == pytest.approx(kwh / per_day * 1000)
    day_vnd = kwh * 3600 + boards * 1e6 / (5 * YEAR) * 86_400
    assert plan.cost.vnd == pytest.approx(day_vnd / per_day)
    assert plan.cost_per_month_vnd == pytest.approx(day_vnd * MONTH / 86_400)
    peak = plan.hours[20]
    assert plan.megawatts_peak == peak.megawatts
    watts = plan.boards * (20 * peak.busy + 10 * (1 - peak.busy)) + 10 * plan.spare_boards
    assert plan.megawatts_peak == pytest.approx(1.5 * watts / 1e6)
    assert plan.utilisation_peak == peak.busy and peak.p95_s == plan.latency_peak_p95_s.median
    assert peak.load == pytest.approx(plan.board_rate / plan.max_board_rate)
    assert max(hour.p95_s for hour in plan.hours) <= 9.0 * 1.05  # quiet hours are not slower


def test_rented_boards() -> None:
    rented = replace(SCENARIO, cost=CostModel(board=load_board("cloud-vm-2-cores")))
    plan = make_plan(rented)
    assert plan.capital_vnd is plan.megawatts_peak is plan.megawatts_mean is plan.kwh_per_1000 is None
    assert {hour.megawatts for hour in plan.hours} == {None}
    boards = plan.boards + plan.spare_boards
    assert plan.cost_per_month_vnd == pytest.approx(boards * 59.61 * 26_400)
    assert "unknown: the boards are rented" in plan_table(plan)
    assert not any("life" in row.change for row in plan.sensitivity)


def test_sensitivity() -> None:
    steps: list[str] = []
    plan = make_plan(SCENARIO, progress=lambda turn, name: steps.append(name))
    rows = {row.change: row for row in plan.sensitivity}
    assert len(steps) == count_steps(SCENARIO) == len(rows) + 1
    peak = rows["busiest hour 3 times the mean"]
    assert peak.boards and peak.boards == pytest.approx(1.5 * (plan.boards + plan.spare_boards), rel=0.03)
    assert rows["spare boards 0%"].boards == plan.boards
    short, slow = rows["life of 3 years"], rows["boards 0.75 times as fast"]
    assert short.ratio and short.vnd_per_1000 and short.ratio > 1 and slow.ratio and slow.ratio > 1.2
    assert short.vnd_per_1000 == pytest.approx(plan.cost.vnd_per_1000 * short.ratio)
    # Two thirds of the limit is less than the longest answers need alone on a board.
    tight = make_plan(replace(SCENARIO, p95_s=5.0))
    assert tight.sensitivity[2].change == "p95 within 3.33 s" and tight.sensitivity[2].boards is None
    assert "out of reach" in plan_table(tight)


@settings(max_examples=8)
@given(users=st.integers(1, 10**10), per_day=st.floats(0.1, 50), p95=st.floats(6, 20))
def test_any_country(users: int, per_day: float, p95: float) -> None:
    scenario = replace(
        SCENARIO, demand=Demand(users=users, answers_per_day=per_day), p95_s=p95, seeds=1, answers=200
    )
    plan = make_plan(scenario, sensitivity=False)
    assert plan.boards * plan.max_board_rate * 0.85 >= plan.peak_rate * (1 - 1e-9)
    assert 0 < plan.utilisation_mean <= 1 and plan.cost.vnd > 0
    assert sum(hour.rate * 3600 for hour in plan.hours) == pytest.approx(users * per_day)
    assert plan.megawatts_mean is not None and plan.megawatts_peak is not None
    assert 0 < plan.megawatts_mean <= plan.megawatts_peak * (1 + 1e-9)


def command(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["plan", "--answers", "300", "--seeds", "1", *arguments])


def test_the_command() -> None:
    arguments = [
        "--users",
        "1_000_000",
        "--result",
        str(MEASURED),
        "--board",
        "intel-n100",
        "--no-sensitivity",
    ]
    text = command(*arguments)
    assert text.exit_code == 0, text.output
    plan = json.loads(command(*arguments, "--json").stdout)
    assert plan["schema"] == SCHEMA and plan["users"] == 1_000_000 and plan["board"] == "Intel N100 board"
    assert f"{plan['boards']:,} in {plan['cells']:,} cells" in text.stdout
    assert f"{plan['cost']['vnd'] * 1000:,.0f} đ" in text.stdout
    names = [name for name, _, _ in plan["assumptions"]]
    assert {"users", "peak_factor", "spread", "cell", "spare", "max_load", "usd_vnd", "extras"} <= set(names)
    flat = command(*arguments, "--hours", ",".join(["1"] * 24), "--peak-factor", "0", "--json")
    assert json.loads(flat.stdout)["peak_rate"] == pytest.approx(plan["mean_rate"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--users", "0"], "users: expected above 0 and at most 1e+11, got 0"),
        (["--p95", "1"], "out of reach"),
        (["--spread", "-1"], "spread: expected 0 to 3, got -1"),
        (["--spare", "-1"], "spare: expected 0 to 10, got -1"),
        (["--pue", "0.5"], "pue: expected 1 to 10, got 0.5"),
        (["--hours", "1,2,x"], "24 numbers"),
        (["--hours", "1,2"], "24 weights"),
        (["--board", "abacus"], "unknown board 'abacus'"),
        (["--pick", "abacus"], "no server 'abacus'"),
        (["--result", "nowhere.json"], "nowhere.json: no such file"),
    ],
)
def test_invalid_options(arguments: list[str], message: str) -> None:
    result = command("--result", str(MEASURED), *arguments)
    assert isinstance(result.exception, binhdan.BinhdanError) and message in str(result.exception)


def test_a_plan_is_json() -> None:
    assert json.loads(json.dumps(asdict(make_plan(SCENARIO, sensitivity=False))))["server"] == "ours"


@pytest.mark.parametrize("wrong", [{"p95_s": 0.0}, {"spare": 11.0}, {"speed": float("nan")}, {"cell": 0}])
def test_invalid_scenarios(wrong: dict[str, Any]) -> None:
    with pytest.raises(binhdan.InvalidArgumentError, match=f"{next(iter(wrong))}: expected"):
        replace(SCENARIO, **wrong)
