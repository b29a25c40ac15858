"""bench/suite: selection of cases, trials of the embedded model and of a real server, a small run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import bench_results
import pytest
from serving import serving

import binhdan
from binhdan.bench.suite import cold_start, forward_passes, quality
from binhdan.bench.suite.cases import Case, Settings, all_cases, fitting
from binhdan.bench.suite.disturbance import Monitor
from binhdan.bench.suite.engines import InProcess, Question, TimedAnswer
from binhdan.bench.suite.measure import Measurement, noise, timing_cost
from binhdan.bench.suite.result import Arrival, load_result
from binhdan.bench.suite.run import RunOptions, run
from binhdan.bench.suite.summary import case_result, trial_of
from binhdan.bench.suite.tables import result_table
from binhdan.bench.suite.trial import TrialRunner, send_all
from binhdan.bench.suite.workloads import load_workload
from binhdan.runtime.client.model import embedded_model
from binhdan.runtime.energy import DeclaredWatts, EnergyWatch, Meter, MeterError

ONE = Arrival(kind="closed", users=1)
SMALL = Settings(workloads=("short",), users=(1, 2), rounds=2, budget_seconds=None)


# ---- cases ---------------------------------------------------------------------------------------------


def test_every_case_once_and_the_important_ones_first() -> None:
    found = all_cases(Settings(), ["chats", "documents", "tools"])
    assert len(found) == len(set(found)) == (6 + 3) * 6
    assert (
        {case.arrival.label for case in found[:9]} == {"1 user"} == {case.arrival.label for case in found[:9]}
    )
    assert [case.prefix for case in found[:9]] == ["cold"] * 6 + ["warm"] * 3
    labels = list(dict.fromkeys(case.arrival.label for case in found))
    assert labels == ["1 user", "16 users", "open", "8 users", "4 users", "2 users"]
    assert not [case for case in found if case.prefix == "warm" and case.workload in ("short", "mixed")]


def test_cases_that_do_not_fit_are_left_out() -> None:
    wanted = all_cases(Settings(workloads=("short", "chats"), users=(1, 4), open_load=0), ["chats"])
    seconds = [1.0, 2.0, 3.0, 1.0, 1.0, 9.0]
    chosen, left = fitting(wanted, seconds, 10, 75.0)
    assert [seconds[wanted.index(case)] for case in chosen] == [1, 2, 3, 1]
    assert chosen + left == wanted
    assert fitting(wanted, seconds, 10, None) == (wanted, [])
    # One user, cold: always measured.
    assert fitting(wanted, seconds, 10, 0.0)[0] == wanted[:2]


@pytest.mark.parametrize(
    "changes",
    [
        {"users": (0,)},
        {"workloads": ()},
        {"open_load": 1.0},
        {"rounds": 0},
        {"warm_up_rounds": -1},
        {"budget_seconds": 0.0},
        {"prefixes": ()},
    ],
)
def test_settings_out_of_range(changes: dict[str, object]) -> None:
    with pytest.raises(binhdan.InvalidArgumentError, match="expected"):
        replace(SMALL, **changes)  # type: ignore[arg-type]


# ---- trials --------------------------------------------------------------------------------------------


async def test_answers_have_the_tokens_that_were_asked_for(model: binhdan.Model) -> None:
    questions = [Question([{"role": "user", "content": f"Xin chào {i}"}], 3 + i, 10) for i in range(4)]
    samples, seconds = await send_all(InProcess(model), questions, Arrival(kind="closed", users=2))
    assert sorted(sample.tokens for sample in samples) == [3, 4, 5, 6]
    assert all(sample.error is None for sample in samples)
    for sample in samples:
        assert 0 < sample.ttft_s <= sample.end_to_end_s <= seconds
        assert sample.tpot_s == pytest.approx((sample.ended - sample.first) / (sample.tokens - 1))


async def test_open_arrivals_do_not_wait_for_answers(model: binhdan.Model) -> None:
    questions = [Question([{"role": "user", "content": f"Câu {i}"}], 2, 5) for i in range(6)]
    arrival = Arrival(kind="open", rate=40.0)
    samples, _ = await send_all(InProcess(model), questions, arrival, seed=1)
    again, _ = await send_all(InProcess(model), questions, arrival, seed=1)
    gaps = [b.due - a.due for a, b in pairwise(samples)]
    assert all(gap > 0 for gap in gaps)
    # `due` is the time of the Poisson process, not the time at which the event loop sent the request.
    assert gaps == pytest.approx([b.due - a.due for a, b in pairwise(again)])


async def test_a_question_that_is_too_long_fails_alone(model: binhdan.Model) -> None:
    long = Question([{"role": "user", "content": "xin chào " * 4000}], 2, 5)
    good = Question([{"role": "user", "content": "xin chào"}], 2, 5)
    samples, seconds = await send_all(InProcess(model), [long, good], ONE)
    assert samples[0].error is not None and samples[1].error is None
    one = trial_of(samples, seconds, None)
    assert one.failures == 1 and len(one.end_to_end_s) == 1 and one.answer_tokens == 2


async def test_warm_prefixes_are_known_and_cold_ones_not(model: binhdan.Model) -> None:
    runner = TrialRunner(InProcess(model), {"documents": load_workload("documents")})
    await runner.prepare()
    assert runner.with_prefix() == ["documents"]
    cached = {}
    for prefix in ("cold", "warm", "cold"):
        case = Case("documents", ONE, prefix)  # type: ignore[arg-type]
        questions = await runner.questions_of(case)
        samples, _ = await runner.run(questions[:2], ONE, 0)
        assert all(sample.error is None for sample in samples)
        cached[prefix] = sum(one.cached_tokens for one in samples) / sum(one.prompt_tokens for one in samples)
    assert cached["cold"] < 0.02 and cached["warm"] > 0.8


def test_declared_watts_are_the_energy_of_a_round() -> None:
    now = iter([0.0, 0.0, 0.0, 2.0])
    clock = lambda: next(now)  # noqa: E731
    watch = EnergyWatch(DeclaredWatts(10.0, clock=lambda: 0.0), clock=clock)
    sample = TimedAnswer(due=0.0, first=0.5, ended=2.0, tokens=4, characters=30)
    one = trial_of([sample], 2.0, watch.lap())
    assert one.joules == 0.0 and one.joules_above_idle is None
    case = case_result("short", ONE, "cold", [one], None)
    assert case.per_answer is not None and case.per_answer.vnd is None


class Failing(Meter):
    """A meter that is removed while it measures."""

    name, source, sampling_hz, measured, whole = "failing", "a sensor", 10.0, True, True

    def __init__(self, reads: int) -> None:
        self.left = reads

    def parts(self) -> dict[str, float]:
        self.left -= 1
        if self.left < 0:
            raise MeterError("a sensor: it is gone")
        return {"board": 0.0}


async def test_a_meter_that_fails_ends_only_the_energy_figures(model: binhdan.Model) -> None:
    settings = replace(SMALL, workloads=("short",), users=(1,), open_load=0.0, rounds=3)
    measurement = Measurement(
        InProcess(model),
        {"short": load_workload("short")},
        settings,
        monitor=Monitor(),
        energy=EnergyWatch(Failing(6)),
    )
    measured = await measurement.run()
    assert measured.meter_failure == "a sensor: it is gone"
    (case,) = measured.cases
    assert len(case.trials) == 3 and case.per_answer is not None and case.per_answer.joules is None
    found = Monitor().report(meter=measured.meter_failure).findings
    assert [one.text for one in found if one.kind == "meter"] == [
        "the meter failed, so there are no energy figures: a sensor: it is gone"
    ]


def test_noise_is_the_half_width_of_a_round() -> None:
    def of(spread: float) -> float | None:
        return noise(bench_results.make(noise=spread).cases)

    quiet, loud = of(0.01), of(0.3)
    assert quiet is not None and loud is not None and quiet < 0.01 < 0.03 < loud


# ---- parts ---------------------------------------------------------------------------------------------


def test_depths_end_at_the_context() -> None:
    assert list(forward_passes.depths(0)) == [0]
    assert list(forward_passes.depths(1791)) == [0, 128, 256, 512, 1024, 1791]
    assert list(forward_passes.depths(300)) == [0, 128, 256]


def test_forward_passes_of_the_embedded_model() -> None:
    def measure() -> Any:
        return forward_passes.measure(embedded_model(), threads=1, isa=None, gb_per_s=10.0, seconds=0.1)

    passes, by_depth = measure()
    names = [one.name for one in passes]
    assert names == ["decode, 1 together", "decode, 4 together", "decode, 16 together", "prompt of 256"]
    assert all(one.seconds > 0 and one.gigabytes > 0 and one.giga_operations > 0 for one in passes)
    # Each weight is multiplied once for a token.
    with binhdan.load(threads=1) as model:
        assert passes[0].giga_operations > 2 * 0.9 * model.info.bytes_per_token / 1.1e9
    assert by_depth[0].depth == 0 and by_depth[0].decode_tokens_per_s > 0

    def prompts_are_faster(of: Any) -> bool:
        return bool(of.prompt_tokens_per_s > of.decode_tokens_per_s)

    # A busy machine may slow one of the two down.
    assert prompts_are_faster(by_depth[0]) or any(prompts_are_faster(measure()[1][0]) for _ in range(4))


def test_cold_start() -> None:
    (start,) = cold_start.measure(embedded_model(), {"threads": 1}, 1)
    assert 0 < start.ready_s < start.ttft_s <= start.answer_s < 60
    assert 10e6 < start.peak_rss_bytes < 500e6


def test_restored_syllables() -> None:
    assert quality.restored("Mẹ đi chợ.", "mẹ đi chợ") == (3, 3)
    assert quality.restored("Mưa, gió.", "mưa giờ") == (1, 2)
    assert quality.restored("Mẹ đi chợ.", "") == (0, 3)


def test_the_embedded_model_restores_marks(model: binhdan.Model) -> None:
    turns = load_workload("diacritics").turns[:8]
    one = quality.measure(model, turns, [])
    assert one.share > 0.5 and one == quality.measure(model, turns, [])


# ---- all of it -----------------------------------------------------------------------------------------


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
    assert small.pins.model_sha256 and small.pins.workloads.keys() == {"short"}
    assert small.pins.options["threads"] == 1 and small.speed_by_depth[0].depth == 0


def test_a_server_is_measured_over_http() -> None:
    settings = replace(SMALL, workloads=("diacritics",), users=(2,), open_load=0.0)
    with serving() as url:
        there = run(RunOptions(settings=settings, url=url, cost=None))
    (case,) = there.cases
    assert case.failures == 0 and case.end_to_end_s and all(one.answer_tokens for one in case.trials)
    assert there.pins.url == url and there.pins.model and there.pins.model_sha256 is None
    assert there.cost is there.quality is there.cold_start is there.disturbance.others_share is None
    assert there.forward_passes == () and there.name == url


def test_measuring_costs_less_than_one_percent(small: object) -> None:
    share = small.protocol.measuring_share  # type: ignore[attr-defined]
    assert share is not None and 0 < share < 0.01
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


async def test_workloads_without_a_prefix_have_no_warm_cases(model: binhdan.Model) -> None:
    settings = replace(SMALL, prefixes=("warm",))
    with pytest.raises(binhdan.InvalidArgumentError, match="no case to measure"):
        await Measurement(InProcess(model), {"short": load_workload("short")}, settings).run()


async def test_a_workload_without_answers_is_an_error(tmp_path: Path) -> None:
    own = tmp_path / "own.jsonl"
    messages = [{"role": "user", "content": "dài " * 500}, {"role": "assistant", "content": "Ừ thôi"}]
    own.write_text(json.dumps({"id": "a", "messages": messages}))
    settings = replace(SMALL, workloads=("own",))
    with binhdan.load(threads=1, context=64) as model:
        with pytest.raises(binhdan.BinhdanError, match="own gets no answer"):
            await Measurement(InProcess(model), {"own": load_workload(own)}, settings).run()


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
