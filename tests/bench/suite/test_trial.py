"""bench/suite/trial.py, engines.py: requests of a trial, closed and open, cold and warm."""

from __future__ import annotations

from itertools import pairwise

import pytest

import binhdan
from binhdan.bench.suite.cases import Case
from binhdan.bench.suite.engines import InProcess, Question, TimedAnswer
from binhdan.bench.suite.result import Arrival
from binhdan.bench.suite.summary import case_result, trial_of
from binhdan.bench.suite.trial import TrialRunner, send_all
from binhdan.bench.suite.workloads import load_workload
from binhdan.runtime.energy import DeclaredWatts, EnergyWatch

ONE = Arrival(kind="closed", users=1)


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
