"""bench/common/arrivals.py: closed loops wait for answers, open loops send at the times of a Poisson
process."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable
from itertools import islice, pairwise
from random import Random
from time import perf_counter

import pytest

import binhdan
from binhdan.bench.common.arrivals import Closed, Open, poisson_times, send_all


def test_times_of_an_open_loop() -> None:
    arrivals = Open(rate=50, requests=4000, seed=1)
    times = arrivals.times()
    gaps = [b - a for a, b in pairwise([0.0, *times])]
    assert times == sorted(times) == arrivals.times() != Open(rate=50, requests=4000, seed=2).times()
    assert statistics.mean(gaps) == pytest.approx(1 / 50, rel=0.06)
    assert statistics.stdev(gaps) == pytest.approx(1 / 50, rel=0.1)  # of an exponential: its mean


def test_a_poisson_process() -> None:
    times = list(islice(poisson_times(4.0, Random(1)), 20_000))
    gaps = [after - before for before, after in pairwise(times)]
    assert min(gaps) >= 0
    assert statistics.fmean(gaps) == pytest.approx(0.25, rel=0.03)
    assert statistics.pstdev(gaps) == pytest.approx(0.25, rel=0.03)
    # The number of events per second is Poisson distributed: its mean and variance are equal.
    counts = [0] * int(times[-1])
    for time in times:
        if time < len(counts):
            counts[int(time)] += 1
    assert statistics.pstdev(counts) ** 2 == pytest.approx(4.0, rel=0.1)
    assert times == list(islice(poisson_times(4.0, Random(1)), 20_000))


async def test_users_of_a_closed_loop_wait_for_their_answers() -> None:
    running, max_running, sent = set[int](), 0, list[int]()

    async def send(item: int, due: float) -> int:
        nonlocal max_running
        assert item - 3 not in running and abs(perf_counter() - due) < 0.5
        running.add(item)
        sent.append(item)
        max_running = max(max_running, len(running))
        await asyncio.sleep(0.001 * (item % 3))
        running.remove(item)
        return 10 * item

    assert await send_all(range(10), Closed(users=3), send) == [10 * item for item in range(10)]
    assert max_running == 3 and sorted(sent) == list(range(10)) and sent[:3] == [0, 1, 2]


async def test_an_open_loop_does_not_wait_for_answers() -> None:
    arrivals, start, dues = Open(rate=1000, requests=8, seed=3), perf_counter(), list[float]()
    all_sent = asyncio.Event()

    async def send(item: str, due: float) -> str:
        dues.append(due)
        assert perf_counter() > due - 0.01
        if len(dues) == 8:
            all_sent.set()
        await all_sent.wait()
        return item

    async with asyncio.timeout(30):
        assert await send_all("abcdefgh", arrivals, send) == list("abcdefgh")
    gaps = [b - a for a, b in pairwise(sorted(dues))]
    assert gaps == pytest.approx([b - a for a, b in pairwise(arrivals.times())]) and dues[0] > start


async def test_an_open_loop_needs_as_many_items_as_times() -> None:
    async def send(item: int, due: float) -> int:
        return item

    with pytest.raises(ValueError, match="expected 4 items, got 3"):
        await send_all(range(3), Open(rate=1000, requests=4), send)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Closed(users=0),
        lambda: Closed(requests=0),
        lambda: Open(rate=0),
        lambda: Open(rate=float("nan")),
    ],
)
def test_invalid_arrivals(make: Callable[[], object]) -> None:
    with pytest.raises(binhdan.InvalidArgumentError, match="expected"):
        make()
