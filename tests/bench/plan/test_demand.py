"""bench/plan/demand.py: the hours of a day add up for any weights."""

from __future__ import annotations

from itertools import pairwise
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import binhdan
from binhdan.bench.plan.demand import DAY, VIETNAM, Demand


def test_the_day_of_a_country() -> None:
    demand = Demand(users=100e6, answers_per_day=3)
    assert demand.mean_rate == pytest.approx(300e6 / DAY)
    assert sum(rate * 3600 for rate in demand.rates()) == pytest.approx(300e6)
    assert demand.peak_rate == pytest.approx(2 * demand.mean_rate) and demand.rates()[20] == demand.peak_rate
    unscaled = Demand(users=1, answers_per_day=1, peak_factor=None)
    assert unscaled.weights() == pytest.approx([24 * weight / sum(VIETNAM) for weight in VIETNAM])
    assert max(unscaled.weights()) == pytest.approx(1.72, abs=0.005)


# Weights that differ enough to reach every peak factor below.
shapes = st.lists(st.floats(0.01, 1.0), min_size=23, max_size=23).map(lambda rest: (1.5, *rest))


@given(shape=shapes, peak=st.floats(1.0, 6.0))
def test_any_day_adds_up_and_has_the_requested_peak(shape: tuple[float, ...], peak: float) -> None:
    demand = Demand(users=10, answers_per_day=8640, shape=shape, peak_factor=peak)
    weights = demand.weights()
    assert fmean(weights) == pytest.approx(1) and min(weights) >= 0
    assert max(weights) == pytest.approx(peak, rel=1e-6)
    for (one, other), (before, after) in zip(pairwise(weights), pairwise(shape), strict=True):
        assert (one <= other) if before <= after else (one >= other)  # the order of the hours stays
    assert demand.mean_rate == pytest.approx(1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"users": 0}, "users: expected above 0 .* got 0"),
        ({"users": float("nan")}, "users: .* got nan"),
        ({"answers_per_day": -1}, "answers_per_day: .* got -1"),
        ({"shape": (1.0,) * 23}, "24 weights"),
        ({"shape": (1.0,) * 23 + (-1.0,)}, "24 weights"),
        ({"shape": (1.0,) * 23 + (float("inf"),)}, "24 weights"),
        ({"shape": (0.0,) * 24}, "a weight above 0"),
        ({"peak_factor": 0.5}, "peak_factor: .* got 0.5"),
        ({"peak_factor": 12.0}, "below 12"),  # two hours share the maximum
        ({"shape": (1.0,) * 24}, "peak_factor: expected at least 1 and below 1 with these weights, got 2"),
    ],
)
def test_invalid_days(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(binhdan.InvalidArgumentError, match=message):
        Demand(**({"users": 1, "answers_per_day": 1} | wrong))
