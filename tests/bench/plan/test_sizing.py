"""bench/plan/sizing.py: the number of boards is enough, fewer are not, and it agrees with formulas."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from queueing_formulas import MMk

import binhdan
from binhdan.bench.plan.simulate import Work
from binhdan.bench.plan.sizing import TOLERANCE, Fleet, boards_needed, first_guess

SPEEDS = tuple(0.45 + 0.116 * count for count in range(16))  # similar to measured speeds
FLEET = Fleet(speeds=SPEEDS, work=Work(spread=0.5), cell=4, answers=1_000, seeds=1)


@pytest.mark.parametrize("rate", [0.5, 7.0, 3_000.0])
@pytest.mark.parametrize("p95", [6.0, 10.0])
def test_enough_and_no_more(rate: float, p95: float) -> None:
    boards = boards_needed(FLEET, rate, p95)
    assert FLEET.p95(boards, rate).median <= p95
    assert boards >= FLEET.min_boards(rate)
    fewer = boards - max(1, math.ceil(0.05 * boards))  # short runs are not monotonic within 1 %
    assert fewer < FLEET.min_boards(rate) or FLEET.p95(fewer, rate).median > p95


def test_the_load_decides_when_the_limit_is_long() -> None:
    boards = boards_needed(FLEET, 1000.0, 100.0)
    assert boards == FLEET.min_boards(1000.0) == math.ceil(1000 / (0.85 * SPEEDS[-1]))


def test_a_large_fleet_is_many_cells() -> None:
    """Ten times the requests need ten times the boards."""
    once, ten = (boards_needed(FLEET, rate, 8.0) for rate in (1e4, 1e5))
    assert ten == pytest.approx(10 * once, rel=3 * TOLERANCE)
    assert FLEET.runs(40, 60.0)[0] == FLEET.runs(4, 6.0)[0]  # the same cell
    assert FLEET.runs(3, 4.5)[0] != FLEET.runs(3, 6.0)[0]


def test_against_erlang() -> None:
    """Boards that run one answer each are M/M/k: the number agrees with Erlang C within one board.

    The p95 of the latency is not that of the wait; for exponential work it has a closed form.
    """
    fleet = Fleet(speeds=(1.0,), work=Work(spread=1.0), cell=64, max_load=0.95, answers=6_000)
    rate, p95 = 8.0, 3.6

    def beyond(servers: int) -> float:
        """The probability that wait and service together take longer than p95."""
        queue, extra = MMk(rate, 1.0, servers), servers - rate
        slow = math.exp(-p95)
        both = (math.exp(-p95) * extra - math.exp(-extra * p95)) / (extra - 1)
        return (1 - queue.wait_probability) * slow + queue.wait_probability * both

    expected = next(servers for servers in range(10, 64) if beyond(servers) <= 0.05)
    assert abs(boards_needed(fleet, rate, p95) - expected) <= 1


@settings(max_examples=10, derandomize=True)
@given(rate=st.floats(0.1, 1e5), factor=st.floats(1.05, 3.0), p95=st.floats(5.0, 15.0))
def test_more_requests_or_less_time_need_no_fewer_boards(rate: float, factor: float, p95: float) -> None:
    slack = 1 + 2 * TOLERANCE
    boards = boards_needed(FLEET, rate, p95)
    assert boards <= max(1, boards_needed(FLEET, rate * factor, p95)) * slack
    assert boards_needed(FLEET, rate, p95 * factor) <= boards * slack + 1
    faster = replace(FLEET, speeds=tuple(speed * factor for speed in SPEEDS))
    assert boards_needed(faster, rate, p95) <= boards * slack + 1


def test_the_first_guess_is_near() -> None:
    guess, found = first_guess(FLEET, 1000.0, 8.0), boards_needed(FLEET, 1000.0, 8.0)
    assert found / 2 <= guess <= 2 * found


def test_out_of_reach() -> None:
    with pytest.raises(
        binhdan.InvalidArgumentError, match=r"out of reach: an answer alone on a board needs 4\.\d s"
    ):
        boards_needed(FLEET, 10.0, 3.0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"cell": 0}, "cell: .* got 0"),
        ({"cell": 1000}, "cell: expected 1 to 256, got 1000"),
        ({"answers": 10}, "answers: .* got 10"),
        ({"seeds": 0}, "seeds: .* got 0"),
        ({"max_load": 1.0}, "max_load: expected 0.01 to 0.98, got 1"),
    ],
)
def test_invalid_fleets(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(binhdan.InvalidArgumentError, match=message):
        Fleet(**({"speeds": (1.0,), "work": Work()} | wrong))


@pytest.mark.parametrize(
    "call", [lambda: boards_needed(FLEET, 0.0, 5.0), lambda: boards_needed(FLEET, 1.0, float("nan"))]
)
def test_invalid_limits(call: Callable[[], int]) -> None:
    with pytest.raises(binhdan.InvalidArgumentError, match="above 0"):
        call()
