"""bench/suite/run.py: a small complete run in process and of a server, its table, the command."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import bench_results
import pytest
from serving import serving

from binhdan.bench.suite.cases import Settings
from binhdan.bench.suite.measure import timing_cost
from binhdan.bench.suite.result import load_result
from binhdan.bench.suite.run import RunOptions, run
from binhdan.bench.suite.tables import result_table

SMALL = Settings(workloads=("short",), users=(1, 2), rounds=2, budget_seconds=None)


@pytest.fixture(scope="module")
def small() -> object:
    return run(RunOptions(settings=SMALL, threads=1, watts=20.0, cold_starts=False, name="nhỏ"))


def test_a_small_run(small: object) -> None:
    from binhdan.bench.suite.result import Result

    assert isinstance(small, Result)
    assert [case.key for case in small.cases] == [
        "short, 1 user, cold",
        "short, 2 users, cold",
        "short, open, cold",
    ]
    for case in small.cases:
        assert len(case.trials) == 2 and case.failures == 0
        assert {len(one.end_to_end_s) for one in case.trials} == (
            {12} if case.arrival.kind == "open" else {4}
        )
        assert case.end_to_end_s and case.end_to_end_s.p50 <= case.end_to_end_s.p95 <= case.end_to_end_s.p99
    one = small.cases[0]
    assert one.per_answer and one.per_answer.joules == pytest.approx(20 * one.per_answer.seconds, rel=0.2)
    assert one.per_answer.joules_above_idle is None  # the idle power was not declared
    rate = small.cases[2].arrival.rate
    assert rate is not None and rate > 0
    assert small.energy and not small.energy.measured and small.energy.source == "declared 20 W"
    assert small.cost and "20 W declared" in small.cost.basis and small.cost.case == one.key
    assert sum(small.cost.parts[one.key].values()) == pytest.approx(1000 * (one.per_answer.vnd or 0))
    assert small.quality and small.quality.syllables == 472
    assert small.identity.model_sha256 and small.identity.workloads.keys() == {"short"}
    assert small.identity.options["threads"] == 1 and small.speed_by_depth[0].depth == 0


def test_a_server_is_measured_over_http() -> None:
    settings = replace(SMALL, workloads=("diacritics",), users=(2,), open_load=0.0)
    with serving() as url:
        there = run(RunOptions(settings=settings, url=url, cost=None))
    (case,) = there.cases
    assert case.failures == 0 and case.end_to_end_s and all(one.answer_tokens for one in case.trials)
    assert there.identity.url == url and there.identity.model and there.identity.model_sha256 is None
    assert there.cost is there.quality is there.cold_start is there.disturbance.others_share is None
    assert there.forward_passes == () and there.name == url


def test_measuring_takes_a_small_share_of_the_time(small: object) -> None:
    share = small.protocol.measuring_share  # type: ignore[attr-defined]
    # This run computes for a second only, so that a snapshot of the machine after each round shows.
    assert share is not None and 0 < share < 0.05
    assert timing_cost() < 1e-4


def test_table_of_a_result(small: object) -> None:
    text = result_table(small)  # type: ignore[arg-type]
    for words in (
        "short, 2 users, cold",
        "declared 20 W, not measured",
        "syllables restored",
        "nhỏ: tiny-vi",
    ):
        assert words in text


def test_a_warning_is_the_first_line_of_a_disturbed_run() -> None:
    assert result_table(bench_results.make(steal=0.2)).startswith("THE MACHINE WAS DISTURBED")
    assert "DISTURBED" not in result_table(bench_results.make())


def bench(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "binhdan", "bench", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=cwd,
        env=os.environ | {"COLUMNS": "200"},
    )


@pytest.mark.slow
def test_command(tmp_path: Path) -> None:
    small = ["--workload", "short", "--users", "1", "--rounds", "1", "--warm-up", "0", "--open-load", "0"]
    done = bench("run", *small, "--threads", "1", "-o", "a.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "short, 1 user, cold" in done.stdout and "a.json" in done.stderr
    result = load_result(tmp_path / "a.json")
    assert result.cold_start and result.cold_start.runs >= 1 and result.energy is None
    assert all(one.joules is None for case in result.cases for one in case.trials)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workload", "long"], "no workload 'long'"),
        (["--prefix", "hot"], "expected cold, warm or both, got hot"),
        (["--board", "abacus"], "unknown board 'abacus'"),
        (["--utilisation", "3"], "utilisation: expected 1e-06 to 1, got 3"),
        (["-m", "nowhere.gguf"], "nowhere.gguf"),
    ],
)
def test_wrong_usage_is_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = bench("run", *arguments, cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and message in done.stderr
    assert list(tmp_path.iterdir()) == []
