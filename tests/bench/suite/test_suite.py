"""bench/suite: which cells, visits to the embedded model and to a real server, a whole small run."""

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
from binhdan.bench.suite import cold_start, passes, quality
from binhdan.bench.suite.cases import Settings, Spot, fitting, spots
from binhdan.bench.suite.disturbance import Watch
from binhdan.bench.suite.drive import visit
from binhdan.bench.suite.measure import Measurement, cost_of_a_sample, noise
from binhdan.bench.suite.result import Arrival, load_result
from binhdan.bench.suite.run import Order, run
from binhdan.bench.suite.summary import cell_of, round_of
from binhdan.bench.suite.tables import result_table
from binhdan.bench.suite.targets import InProcess, Question, Sample
from binhdan.bench.suite.visitor import Visitor
from binhdan.bench.suite.workloads import load_workload
from binhdan.runtime.client.model import embedded_model
from binhdan.runtime.energy import DeclaredWatts, EnergyWatch, Meter, MeterError

ONE = Arrival(kind="closed", users=1)
SMALL = Settings(workloads=("short",), users=(1, 2), rounds=2, budget_seconds=None)


# ---- plan ----------------------------------------------------------------------------------------------


def test_every_cell_once_and_the_telling_ones_first() -> None:
    found = spots(Settings(), ["chats", "documents", "tools"])
    assert len(found) == len(set(found)) == (6 + 3) * 6
    assert (
        {spot.arrival.label for spot in found[:9]} == {"1 user"} == {spot.arrival.label for spot in found[:9]}
    )
    assert [spot.prefix for spot in found[:9]] == ["cold"] * 6 + ["warm"] * 3
    labels = list(dict.fromkeys(spot.arrival.label for spot in found))
    assert labels == ["1 user", "16 users", "open", "8 users", "4 users", "2 users"]
    assert not [spot for spot in found if spot.prefix == "warm" and spot.workload in ("short", "mixed")]


def test_what_does_not_fit_is_left_out() -> None:
    wanted = spots(Settings(workloads=("short", "chats"), users=(1, 4), open_load=0), ["chats"])
    seconds = [1.0, 2.0, 3.0, 1.0, 1.0, 9.0]
    chosen, left = fitting(wanted, seconds, 10, 75.0)
    assert [seconds[wanted.index(spot)] for spot in chosen] == [1, 2, 3, 1]
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


# ---- visits --------------------------------------------------------------------------------------------


async def test_answers_have_the_tokens_that_were_asked_for(model: binhdan.Model) -> None:
    questions = [Question([{"role": "user", "content": f"Xin chào {i}"}], 3 + i, 10) for i in range(4)]
    samples, seconds = await visit(InProcess(model), questions, Arrival(kind="closed", users=2))
    assert sorted(sample.tokens for sample in samples) == [3, 4, 5, 6]
    assert all(sample.error is None for sample in samples)
    for sample in samples:
        assert 0 < sample.first_token_s <= sample.end_to_end_s <= seconds
        assert sample.per_token_s == pytest.approx((sample.ended - sample.first) / (sample.tokens - 1))


async def test_open_arrivals_wait_for_nobody(model: binhdan.Model) -> None:
    questions = [Question([{"role": "user", "content": f"Câu {i}"}], 2, 5) for i in range(6)]
    arrival = Arrival(kind="open", rate=40.0)
    samples, _ = await visit(InProcess(model), questions, arrival, seed=1)
    again, _ = await visit(InProcess(model), questions, arrival, seed=1)
    gaps = [b.due - a.due for a, b in pairwise(samples)]
    assert all(gap > 0 for gap in gaps)
    # Due at the times of the process, whenever the loop got to it.
    assert gaps == pytest.approx([b.due - a.due for a, b in pairwise(again)])


async def test_a_question_that_is_too_long_is_a_failure_not_an_end(model: binhdan.Model) -> None:
    long = Question([{"role": "user", "content": "xin chào " * 4000}], 2, 5)
    good = Question([{"role": "user", "content": "xin chào"}], 2, 5)
    samples, seconds = await visit(InProcess(model), [long, good], ONE)
    assert samples[0].error is not None and samples[1].error is None
    one = round_of(samples, seconds, None)
    assert one.failures == 1 and len(one.end_to_end_s) == 1 and one.answer_tokens == 2


async def test_warm_prefixes_are_known_and_cold_ones_not(model: binhdan.Model) -> None:
    visitor = Visitor(InProcess(model), {"documents": load_workload("documents")})
    await visitor.prepare()
    assert visitor.with_prefix() == ["documents"]
    cached = {}
    for prefix in ("cold", "warm", "cold"):
        spot = Spot("documents", ONE, prefix)  # type: ignore[arg-type]
        questions = await visitor.ready(spot)
        samples, _ = await visitor.visit(questions[:2], ONE, 0)
        assert all(sample.error is None for sample in samples)
        cached[prefix] = sum(one.cached_tokens for one in samples) / sum(one.prompt_tokens for one in samples)
    assert cached["cold"] < 0.02 and cached["warm"] > 0.8


def test_declared_watts_are_the_energy_of_a_round() -> None:
    now = iter([0.0, 0.0, 0.0, 2.0])
    clock = lambda: next(now)  # noqa: E731
    watch = EnergyWatch(DeclaredWatts(10.0, clock=lambda: 0.0), clock=clock)
    sample = Sample(due=0.0, first=0.5, ended=2.0, tokens=4, characters=30)
    one = round_of([sample], 2.0, watch.lap())
    assert one.joules == 0.0 and one.joules_above_idle is None
    cell = cell_of("short", ONE, "cold", [one], None)
    assert cell.per_answer is not None and cell.per_answer.vnd is None


class Failing(Meter):
    """A meter that is taken away while it measures."""

    name, source, sampling_hz, measured, whole = "failing", "a sensor", 10.0, True, True

    def __init__(self, reads: int) -> None:
        self.left = reads

    def parts(self) -> dict[str, float]:
        self.left -= 1
        if self.left < 0:
            raise MeterError("a sensor: it is gone")
        return {"board": 0.0}


async def test_a_meter_that_fails_takes_no_more_than_the_energy_with_it(model: binhdan.Model) -> None:
    settings = replace(SMALL, workloads=("short",), users=(1,), open_load=0.0, rounds=3)
    measurement = Measurement(
        InProcess(model),
        {"short": load_workload("short")},
        settings,
        watch=Watch(),
        energy=EnergyWatch(Failing(6)),
    )
    measured = await measurement.run()
    assert measured.meter_failure == "a sensor: it is gone"
    (cell,) = measured.cells
    assert len(cell.rounds) == 3 and cell.per_answer is not None and cell.per_answer.joules is None
    found = Watch().report(meter=measured.meter_failure).findings
    assert [one.text for one in found if one.kind == "meter"] == [
        "the meter failed, and there is no energy: a sensor: it is gone"
    ]


def test_noise_is_the_half_width_of_a_round() -> None:
    def cells(spread: float) -> list[float | None]:
        made = bench_results.make(noise=spread)
        return [noise(made.cells)]

    (quiet,), (loud,) = cells(0.01), cells(0.3)
    assert quiet is not None and loud is not None and quiet < 0.01 < 0.03 < loud


# ---- parts ---------------------------------------------------------------------------------------------


def test_depths_end_where_there_is_no_room() -> None:
    assert list(passes.depths(0)) == [0]
    assert list(passes.depths(1791)) == [0, 128, 256, 512, 1024, 1791]
    assert list(passes.depths(300)) == [0, 128, 256]


def test_passes_of_the_embedded_model() -> None:
    def measure() -> Any:
        return passes.measure(embedded_model(), threads=1, isa=None, gb_per_s=10.0, seconds=0.1)

    work, context = measure()
    names = [one.name for one in work]
    assert names == ["decode, 1 together", "decode, 4 together", "decode, 16 together", "prompt of 256"]
    assert all(one.seconds > 0 and one.gigabytes > 0 and one.giga_operations > 0 for one in work)
    # Each weight is multiplied once for a token.
    with binhdan.load(threads=1) as model:
        assert work[0].giga_operations > 2 * 0.9 * model.info.bytes_per_token / 1.1e9
    assert context[0].depth == 0 and context[0].decode_tokens_per_s > 0

    def prompts_are_faster(of: Any) -> bool:
        return bool(of.prompt_tokens_per_s > of.decode_tokens_per_s)

    # A busy machine may hold up one and not the other.
    assert prompts_are_faster(context[0]) or any(prompts_are_faster(measure()[1][0]) for _ in range(4))


def test_a_fresh_process() -> None:
    (start,) = cold_start.measure(embedded_model(), {"threads": 1}, 1)
    assert 0 < start.ready_s < start.first_token_s <= start.answer_s < 60
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
    return run(Order(settings=SMALL, threads=1, watts=20.0, cold_starts=False, name="nhỏ"))


def test_a_small_run(small: object) -> None:
    from binhdan.bench.suite.result import Result

    assert isinstance(small, Result)
    assert [cell.key for cell in small.cells] == [
        "short, 1 user, cold",
        "short, 2 users, cold",
        "short, open, cold",
    ]
    for cell in small.cells:
        assert len(cell.rounds) == 2 and cell.failures == 0
        assert {len(one.end_to_end_s) for one in cell.rounds} == (
            {12} if cell.arrival.kind == "open" else {4}
        )
        assert cell.end_to_end_s and cell.end_to_end_s.p50 <= cell.end_to_end_s.p95 <= cell.end_to_end_s.p99
    one = small.cells[0]
    assert one.per_answer and one.per_answer.joules == pytest.approx(20 * one.per_answer.seconds, rel=0.2)
    assert one.per_answer.joules_above_idle is None  # nothing declared what idle takes
    rate = small.cells[2].arrival.rate
    assert rate is not None and rate > 0
    assert small.energy and not small.energy.measured and small.energy.source == "declared 20 W"
    assert small.cost and "20 W declared" in small.cost.basis and small.cost.cell == one.key
    assert sum(small.cost.parts[one.key].values()) == pytest.approx(1000 * (one.per_answer.vnd or 0))
    assert small.quality and small.quality.syllables == 472
    assert small.pins.model_sha256 and small.pins.workloads.keys() == {"short"}
    assert small.pins.options["threads"] == 1 and small.context[0].depth == 0


def test_a_server_is_asked_over_http() -> None:
    settings = replace(SMALL, workloads=("diacritics",), users=(2,), open_load=0.0)
    with serving() as url:
        there = run(Order(settings=settings, url=url, cost=None))
    (cell,) = there.cells
    assert cell.failures == 0 and cell.end_to_end_s and all(one.answer_tokens for one in cell.rounds)
    assert there.pins.url == url and there.pins.model and there.pins.model_sha256 is None
    assert there.cost is there.quality is there.cold_start is there.disturbance.others_share is None
    assert there.work == () and there.name == url


def test_measuring_costs_less_than_a_hundredth(small: object) -> None:
    share = small.protocol.measuring_share  # type: ignore[attr-defined]
    assert share is not None and 0 < share < 0.01
    assert cost_of_a_sample() < 1e-4


def test_the_table_says_what_was_measured(small: object) -> None:
    text = result_table(small)  # type: ignore[arg-type]
    for words in ("short, 2 users, cold", "declared 20 W, not measured", "marks restored", "nhỏ: tiny-vi"):
        assert words in text


def test_a_disturbed_run_says_so_first() -> None:
    assert result_table(bench_results.make(steal=0.2)).startswith("THE MACHINE WAS DISTURBED")
    assert "DISTURBED" not in result_table(bench_results.make())


async def test_workloads_without_a_prefix_have_no_warm_cells(model: binhdan.Model) -> None:
    settings = replace(SMALL, prefixes=("warm",))
    with pytest.raises(binhdan.InvalidArgumentError, match="nothing to measure"):
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
    assert all(one.joules is None for cell in result.cells for one in cell.rounds)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workload", "long"], "no workload 'long'"),
        (["--prefix", "hot"], "expected cold, warm or both, got hot"),
        (["--board", "abacus"], "unknown board 'abacus'"),
        (["--utilisation", "3"], "utilisation is 3"),
        (["-m", "nowhere.gguf"], "nowhere.gguf"),
    ],
)
def test_wrong_usage_is_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = bench("run", *arguments, cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and message in done.stderr
    assert list(tmp_path.iterdir()) == []
