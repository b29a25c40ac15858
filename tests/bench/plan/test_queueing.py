"""bench/plan/queueing.py against known formulas, which are checked against each other and by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from queueing_formulas import MMk, mg1_mean_wait, processor_sharing_mean_time

import binhdan
from binhdan.bench.plan.queueing import Batching

loads = st.floats(0.01, 0.98)


@given(load=loads, service=st.floats(0.01, 100))
def test_one_server(load: float, service: float) -> None:
    """M/M/1 has simple formulas; it is M/G/1 with exponential service (mean square: twice the squared
    mean)."""
    rate, mean = load * service, 1 / service
    queue = MMk(rate, service, 1)
    assert queue.wait_probability == pytest.approx(load)
    assert queue.mean_wait == pytest.approx(load / (service - rate))
    assert mg1_mean_wait(rate, mean, 2 * mean**2) == pytest.approx(queue.mean_wait)
    assert processor_sharing_mean_time(rate, mean) == pytest.approx(queue.mean_wait + mean)
    # Constant service times halve the wait.
    assert mg1_mean_wait(rate, mean, mean**2) == pytest.approx(queue.mean_wait / 2)


@pytest.mark.parametrize(("servers", "offered"), [(1, 0.5), (2, 1.0), (5, 3.5), (10, 8.0), (50, 45.0)])
def test_erlang_c_by_its_definition(servers: int, offered: float) -> None:
    top = offered**servers / math.factorial(servers) * servers / (servers - offered)
    below = sum(offered**count / math.factorial(count) for count in range(servers))
    assert MMk(offered, 1.0, servers).wait_probability == pytest.approx(top / (below + top))


def test_two_servers_by_hand() -> None:
    assert MMk(1.0, 1.0, 2).wait_probability == pytest.approx(1 / 3)
    assert MMk(1.0, 1.0, 2).mean_wait == pytest.approx(1 / 3)


@given(load=loads, servers=st.integers(1, 200), share=st.floats(0.01, 0.999))
def test_percentiles_of_the_wait(load: float, servers: int, share: float) -> None:
    queue = MMk(load * servers, 1.0, servers)
    wait = queue.wait_percentile(share)
    beyond = queue.wait_probability * math.exp(-(servers - queue.rate) * wait)
    assert beyond == pytest.approx(1 - share) if wait > 0 else beyond <= 1 - share + 1e-12


@given(load=loads, servers=st.integers(1, 40))
def test_batching_is_mmk_for_speeds_that_rise_evenly(load: float, servers: int) -> None:
    queue = MMk(load * servers, 1.0, servers)
    board = Batching(load * servers, [float(count) for count in range(1, servers + 1)])
    assert board.mean_time == pytest.approx(queue.mean_wait + 1.0)


@given(load=loads, places=st.integers(1, 40))
def test_batching_is_mm1_for_constant_speeds(load: float, places: int) -> None:
    board = Batching(load, [1.0] * places)
    assert board.busy == pytest.approx(load)
    assert board.mean_time == pytest.approx(processor_sharing_mean_time(load, 1.0))


@given(load=loads, more=loads, servers=st.integers(1, 100))
def test_a_higher_load_means_a_longer_wait(load: float, more: float, servers: int) -> None:
    low, high = sorted((load, more))
    waits = [MMk(part * servers, 1.0, servers).mean_wait for part in (low, high)]
    assert waits[0] <= waits[1] * (1 + 1e-9)
    assert MMk(2 * low * servers, 1.0, 2 * servers).mean_wait <= waits[0]  # a larger pool at the same load


def test_invalid_rates_and_speeds() -> None:
    with pytest.raises(binhdan.InvalidArgumentError, match="expected below 1 for a finite queue, got 1"):
        Batching(2.0, [1.0, 2.0])
    for rate, speeds in ((1.0, []), (-1.0, [1.0]), (1.0, [0.0, 2.0])):
        with pytest.raises(binhdan.InvalidArgumentError, match="expected a rate and speeds above 0"):
            Batching(rate, speeds)
