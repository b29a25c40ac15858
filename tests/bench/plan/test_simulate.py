"""bench/plan/simulate.py against formulas. The tolerances are a few standard errors of these short runs. The
seeds are fixed, so that each test always has the same result."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from queueing_formulas import MMk, mg1_mean_wait, processor_sharing_mean_time

import binhdan
from binhdan.bench.plan.queueing import Batching
from binhdan.bench.plan.simulate import Pool, Run, Work, simulate

EXPONENTIAL = Work(spread=1.0)
CONSTANT = Work()
# As a real board: each additional answer raises the speed by less.
SPEEDS = (0.45, 0.75, 1.0, 1.2, 1.35, 1.5)


def mean(pool: Pool, rate: float, work: Work, of: Callable[[Run], float], seeds: int = 4) -> float:
    return fmean(of(simulate(pool, rate, work, answers=6_000, seed=seed)) for seed in range(seeds))


@pytest.mark.parametrize(("servers", "load"), [(1, 0.6), (3, 0.7), (8, 0.7)])
def test_mmk(servers: int, load: float) -> None:
    queue = MMk(load * servers, 1.0, servers)
    pool = Pool(boards=servers, speeds=(1.0,))
    assert mean(pool, queue.rate, EXPONENTIAL, lambda run: run.busy) == pytest.approx(load, rel=0.02)
    wait = mean(pool, queue.rate, EXPONENTIAL, lambda run: run.mean_wait)
    assert wait == pytest.approx(queue.mean_wait, rel=0.15)
    p95 = mean(pool, queue.rate, EXPONENTIAL, lambda run: run.wait.p95)
    assert p95 == pytest.approx(queue.wait_percentile(0.95), rel=0.15)
    latency = mean(pool, queue.rate, EXPONENTIAL, lambda run: run.mean_latency)
    assert latency == pytest.approx(queue.mean_wait + 1.0, rel=0.06)


@pytest.mark.parametrize("spread", [0.0, 0.5, 1.0, 1.5])
def test_mg1(spread: float) -> None:
    work, rate = Work(spread=spread), 0.6
    wait = mean(Pool(boards=1, speeds=(1.0,)), rate, work, lambda run: run.mean_wait, seeds=6)
    assert wait == pytest.approx(mg1_mean_wait(rate, 1.0, 1.0 + spread**2), rel=0.15)


@pytest.mark.parametrize("spread", [0.0, 0.5, 1.0])
def test_processor_sharing_does_not_depend_on_the_distribution_of_the_work(spread: float) -> None:
    """M/G/1 with processor sharing. At this load, 400 running answers are practically no limit."""
    pool = Pool(boards=1, speeds=(1.0,) * 400)
    time = mean(pool, 0.6, Work(spread=spread), lambda run: run.mean_latency, seeds=6)
    assert time == pytest.approx(processor_sharing_mean_time(0.6, 1.0), rel=0.1)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.85])
def test_a_board_that_batches(load: float) -> None:
    board = Batching(load * SPEEDS[-1], SPEEDS)
    pool = Pool(boards=1, speeds=SPEEDS)
    assert mean(pool, board.rate, EXPONENTIAL, lambda run: run.busy) == pytest.approx(board.busy, rel=0.03)
    time = mean(pool, board.rate, EXPONENTIAL, lambda run: run.mean_latency)
    assert time == pytest.approx(board.mean_time, rel=0.15)


def test_a_single_answer_runs_at_the_measured_speed() -> None:
    run = simulate(Pool(boards=1, speeds=SPEEDS), 1e-4, CONSTANT, answers=200)
    assert run.wait.p99 == 0 and run.latency.p50 == run.latency.p99 == pytest.approx(1 / SPEEDS[0])
    assert run.concurrency == pytest.approx(1.0, abs=0.01)


def test_a_full_board_runs_at_the_measured_speed() -> None:
    """With more requests than the boards can answer, the latency is the number of running answers / speed."""
    run = simulate(Pool(boards=2, speeds=SPEEDS), 20.0, CONSTANT, answers=3_000)
    assert run.concurrency == pytest.approx(len(SPEEDS), rel=0.01) and run.busy == pytest.approx(1.0)
    assert run.mean_latency - run.mean_wait == pytest.approx(len(SPEEDS) / SPEEDS[-1], rel=0.01)
    assert run.waiting > 1000


cases = st.fixed_dictionaries(
    {
        "pool": st.builds(
            Pool,
            boards=st.integers(1, 6),
            speeds=st.sampled_from([(1.0,), SPEEDS, (1.0, 1.0, 1.0), (0.1, 5.0)]),
        ),
        "work": st.sampled_from([CONSTANT, EXPONENTIAL, Work(samples=(0.5, 0.5, 2.0), spread=0.7)]),
        "load": st.floats(0.01, 1.3),
        "seed": st.integers(0, 1000),
    }
)


@settings(max_examples=25)
@given(case=cases)
def test_no_request_is_lost(case: dict[str, Any]) -> None:
    pool, rate = case["pool"], case["load"] * case["pool"].boards * case["pool"].speeds[-1]
    run = simulate(pool, rate, case["work"], answers=300, seed=case["seed"])
    assert run.answers == 300
    assert run.arrived == run.finished + run.waiting + run.running
    assert run.finished >= 360  # including the warm-up
    assert run.running <= pool.boards * len(pool.speeds)
    assert run.waiting == 0 or run.running == pool.boards * len(pool.speeds)
    assert 0 <= run.busy <= 1 + 1e-9 and 1 <= run.concurrency + 1e-9 <= len(pool.speeds) + 1e-6
    assert 0 <= run.wait.p50 <= run.wait.p95 <= run.wait.p99
    assert run.wait.p95 <= run.latency.p95 and run.mean_wait <= run.mean_latency


@settings(max_examples=20, derandomize=True)  # p95 has a random error of a percent
@given(case=cases, factor=st.floats(1.2, 4.0))
def test_more_requests_do_not_end_earlier(case: dict[str, Any], factor: float) -> None:
    """For boards whose speed per answer falls with the number of running answers, as on all measured
    boards."""
    pool, rate = Pool(boards=case["pool"].boards, speeds=SPEEDS), 0.2 * case["pool"].boards
    less, more = (
        simulate(pool, rate * times, case["work"], answers=1_000, seed=case["seed"]) for times in (1, factor)
    )
    assert more.mean_latency >= less.mean_latency * 0.999
    assert more.latency.p95 >= less.latency.p95 * 0.97
    assert more.busy >= less.busy * 0.99


@settings(max_examples=15)
@given(case=cases, factor=st.floats(1.0, 3.0))
def test_one_queue_is_never_shorter_for_more_requests(case: dict[str, Any], factor: float) -> None:
    """Boards that run one answer each, one queue, the same work, arrivals closer together: true for each
    run."""
    pool = Pool(boards=case["pool"].boards, speeds=(1.0,))
    rate = min(0.9, case["load"]) * pool.boards
    less, more = (
        simulate(pool, rate * times, case["work"], answers=300, seed=case["seed"]) for times in (1, factor)
    )
    assert more.mean_wait >= less.mean_wait - 1e-9 and more.wait.p95 >= less.wait.p95 - 1e-9


def test_a_larger_pool_has_shorter_waits() -> None:
    waits = [
        mean(Pool(boards=boards, speeds=(1.0,)), 0.8 * boards, EXPONENTIAL, lambda run: run.wait.p95)
        for boards in (1, 4, 16)
    ]
    assert waits[0] > 1.5 * waits[1] > 3 * waits[2]


def test_the_same_seed_gives_the_same_run() -> None:
    def run(seed: int) -> Run:
        simulate.cache_clear()
        return simulate(Pool(boards=2, speeds=SPEEDS), 1.5, EXPONENTIAL, answers=500, seed=seed)

    assert run(1) == run(1) != run(2)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Pool(boards=0, speeds=(1.0,)), "at least 1 board"),
        (lambda: Pool(boards=1, speeds=()), "at least 1 board"),
        (lambda: Pool(boards=1, speeds=(1.0, 0.0)), "speeds above 0"),
        (lambda: Work(samples=(0.5, 0.5)), "mean of 1"),
        (lambda: Work(samples=()), "samples of work"),
        (lambda: Work(spread=-0.1), "spread: expected 0 to 3, got -0.1"),
        (lambda: simulate(Pool(boards=1, speeds=(1.0,)), 0.0, CONSTANT), "a rate above 0"),
        (lambda: simulate(Pool(boards=1, speeds=(1.0,)), float("nan"), CONSTANT), "a rate above 0"),
        (lambda: simulate(Pool(boards=1, speeds=(1.0,)), 0.5, CONSTANT, answers=0), "10,000,000 answers"),
    ],
)
def test_bad_pools(wrong: Callable[[], object], message: str) -> None:
    with pytest.raises(binhdan.InvalidArgumentError, match=message):
        wrong()
