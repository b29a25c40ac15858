"""Runs the commands of docs/national-scale.md and compares its numbers with their output.

The simulation is deterministic, but the last digits of logarithms differ between processors, so the
comparison has a small tolerance.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from binhdan.bench.cli import app
from binhdan.bench.plan.service import load_service

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "national-scale.md").read_text(encoding="utf-8")
PROSE = " ".join(re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL).split())
COMMANDS = re.findall(r"^binhdan bench (plan .*examples.*)$", TEXT, re.MULTILINE)
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
STAFF_VND = 30e6  # per month, as the page states


def block(name: str) -> str:
    return re.findall(rf"<!-- {name} -->\n```\n(.*?)\n```", TEXT, re.DOTALL)[0]


def numbers(text: str) -> list[float]:
    return [float(word.replace(",", "")) for word in NUMBER.findall(text)]


def run(monkeypatch: pytest.MonkeyPatch, command: str, *more: str) -> str:
    monkeypatch.chdir(ROOT)
    result = CliRunner().invoke(app, [*shlex.split(command), *more])
    assert result.exit_code == 0, result.exception
    return result.stdout


def assert_same(stated: str, printed: str) -> None:
    assert NUMBER.sub("#", stated).split() == NUMBER.sub("#", printed).split()
    assert numbers(stated) == pytest.approx(numbers(printed), rel=0.01, abs=0.01)


def test_the_plan_the_day_and_the_assumptions(monkeypatch: pytest.MonkeyPatch) -> None:
    head, fleet, hours, assumed = run(monkeypatch, COMMANDS[0], "--no-sensitivity").split("\n\n")
    assert_same(block("plan"), f"{head}\n\n{fleet}")
    assert_same(block("hours"), hours)
    assert_same(block("assumed"), assumed)


@pytest.mark.slow  # half a minute
def test_the_sensitivity(monkeypatch: pytest.MonkeyPatch) -> None:
    other = run(monkeypatch, COMMANDS[0]).split("\n\n")[3]
    assert_same(block("other"), other)
    ratio = next(numbers(line)[-1] for line in other.splitlines() if line.startswith("p95 within 10 s"))
    assert_stated(r"within 10 s instead of 15 needs ([\d.]+) times", ratio)


def assert_stated(pattern: str, value: float) -> None:
    """The text of the page must state this number, rounded to any number of decimals."""
    found = re.findall(pattern, PROSE)
    assert len(found) == 1, pattern
    decimals = len(found[0].partition(".")[2])
    assert abs(numbers(found[0])[0] - value) <= 0.51 * 10**-decimals, f"{pattern}: {found[0]} or {value}"


def month_answers(plan: Any) -> float:
    return float(plan["cost_per_month_vnd"] / plan["cost"]["vnd"])


STATED: list[tuple[str, Callable[[Any], float]]] = [
    (r"So: ([\d,]+) boards", lambda plan: plan["boards"]),
    (r"boards and ([\d,]+) spare", lambda plan: plan["spare_boards"]),
    (r"about ([\d,]+) servers", lambda plan: (plan["boards"] + plan["spare_boards"]) / 56),
    (r"before buying ([\d,]+)", lambda plan: (plan["boards"] + plan["spare_boards"]) / 56),
    (r"cores; ([\d.]+) kW", lambda plan: plan["megawatts_peak"] * 1000),
    (r"cooling; ([\d,]+) đ for 1,000", lambda plan: plan["cost"]["vnd"] * 1000),
    (r"([\d.]+) % is hardware", lambda plan: 100 * plan["cost"]["parts"]["hardware"] / plan["cost"]["vnd"]),
    (r"The whole is ([\d.]+) billion", lambda plan: plan["cost_per_month_vnd"] / 1e9),
    (r"or ([\d.]+) đ for each person", lambda plan: plan["cost_per_month_vnd"] / plan["users"]),
    (r"adds ([\d.]+) đ to 1,000", lambda plan: 1000 * STAFF_VND / month_answers(plan)),
    (r"16 it answers ([\d.]+) times", lambda plan: plan["max_board_rate"] / (57.86 / 128)),
    (r"That is why ([\d]+) % of load", lambda plan: 100 * plan["hours"][17]["load"]),
    (r"load is ([\d]+) % busy", lambda plan: 100 * plan["hours"][17]["busy"]),
    (r"of weights ([\d.]+) times a second", lambda plan: plan["max_board_rate"] * 128 / 16),
]


def test_the_prose(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = json.loads(run(monkeypatch, COMMANDS[0], "--no-sensitivity", "--json"))
    for pattern, value in STATED:
        assert_stated(pattern, value(plan))
    assert 0.8 < 40 * STAFF_VND / plan["cost_per_month_vnd"] < 1.2  # "a team of 40 costs as much"


def test_rented(monkeypatch: pytest.MonkeyPatch) -> None:
    bought = json.loads(run(monkeypatch, COMMANDS[0], "--no-sensitivity", "--json"))
    rented = json.loads(run(monkeypatch, COMMANDS[1], "--json"))
    assert_stated(r"gives ([\d,]+) đ for 1,000", rented["cost"]["vnd"] * 1000)
    assert_stated(r"answers and ([\d.]+) billion", rented["cost_per_month_vnd"] / 1e9)
    assert_stated(r"a month: ([\d.]+) times", rented["cost"]["vnd"] / bought["cost"]["vnd"])
    assert rented["megawatts_peak"] is None


def test_the_measured_figures() -> None:
    speeds = load_service(ROOT / "examples/plan/measured.json").speeds()
    assert_stated(r"the line gives them (\d+) %", 100 * speeds[3] / speeds[15])
    loads = json.loads((ROOT / "examples/plan/measured.json").read_text("utf-8"))["results"]
    for result, pattern in zip(loads, (r"One user gets ([\d.]+)", r"16 together ([\d]+)\."), strict=True):
        speeds = [load["tokens_per_s"] for load in result["loads"]]
        assert_stated(pattern, sum(speeds) / len(speeds))
        assert {load["prompt_tokens"] for load in result["loads"]} == {876}
