"""bench/common/statistics.py against distributions with known results."""

from __future__ import annotations

import math
from statistics import quantiles

import numpy as np
import pytest
from bench_results import half_width

from binhdan.bench.common import statistics
from binhdan.bench.common.statistics import Estimate


def test_percentiles_interpolate_between_values() -> None:
    assert statistics.percentile([3, 1, 2], 0.5) == 2
    assert statistics.percentile([1, 2, 3, 4], 0.5) == 2.5
    assert statistics.percentile(list(range(101)), 0.99) == 99
    with pytest.raises(ValueError, match="got none"):
        statistics.percentile([], 0.5)


def test_tails() -> None:
    found = statistics.Percentiles.of([5.0, 1.0, 2.0, 3.0, 4.0])
    assert found == statistics.Percentiles(3.0, pytest.approx(4.8), pytest.approx(4.96))
    assert statistics.Percentiles.of([1.0]) == statistics.Percentiles(1.0, 1.0, 1.0)
    inclusive = quantiles(range(37), n=100, method="inclusive")
    assert [statistics.percentile(range(37), k / 100) for k in range(1, 100)] == pytest.approx(inclusive)
    with pytest.raises(ValueError, match="got none"):
        statistics.Percentiles.of([])


def test_spreads() -> None:
    assert statistics.Spread.of([3.0, 1.0, 2.5, 9.0]) == statistics.Spread(2.75, 1.0, 9.0)
    with pytest.raises(ValueError, match="got none"):
        statistics.Spread.of([])


# From tables of Student's t.
@pytest.mark.parametrize(
    ("share", "freedom", "expected"),
    [
        (0.975, 4, 2.7764),
        (0.975, 9, 2.2622),
        (0.975, 29, 2.0452),
        (0.025, 9, -2.2622),
        (0.95, 9, 1.8331),
        (0.975, 10**6, 1.96),
    ],
)
def test_student_t(share: float, freedom: int, expected: float) -> None:
    assert statistics.student_t(share, freedom) == pytest.approx(expected, rel=0.01)


def coverage(truth: float, draw: object, estimate: object, trials: int = 400) -> float:
    hits = 0
    for trial in range(trials):
        hits += estimate(draw(np.random.default_rng(1000 + trial))).contains(truth)  # type: ignore[operator]
    return hits / trials


@pytest.mark.parametrize("runs", [10, 15, 30])
def test_intervals_of_a_mean_contain_the_true_value_at_their_confidence_level(runs: int) -> None:
    share = coverage(5.0, lambda random: random.normal(5, 1, runs), lambda x: statistics.mean(list(x)))
    assert 0.92 <= share <= 0.985


@pytest.mark.parametrize("paired", [True, False])
def test_intervals_of_a_ratio_of_skewed_times_contain_the_true_value(paired: bool) -> None:
    def draw(random: np.random.Generator) -> tuple[list[float], list[float]]:
        drift = random.lognormal(0, 0.3, 12) if paired else np.ones(12)
        ours = 1.1 * drift * random.lognormal(0, 0.1, 12)
        return ours.tolist(), (drift * random.lognormal(0, 0.1, 12)).tolist()

    share = coverage(1.1, draw, lambda pair: statistics.ratio(*pair, paired=paired))
    assert 0.91 <= share <= 0.99


def test_pairs_cancel_shared_disturbances() -> None:
    random = np.random.default_rng(3)
    drift = random.lognormal(0, 0.5, 12)
    ours, theirs = 2 * drift * random.lognormal(0, 0.01, 12), drift * random.lognormal(0, 0.01, 12)
    paired = statistics.ratio(list(ours), list(theirs), paired=True)
    alone = statistics.ratio(list(ours), list(theirs), paired=False)
    assert paired.value == pytest.approx(2, rel=0.02) and paired.value == pytest.approx(alone.value)
    assert half_width(paired) < 0.02 < 0.2 < half_width(alone)
    assert not paired.contains(1)


def test_intervals_of_a_median_resample_whole_runs() -> None:
    """Values of a run depend on each other: 10 runs of 50 values carry little more information than 10
    values."""

    def draw(random: np.random.Generator) -> list[list[float]]:
        return [(random.normal(level, 0.01, 50)).tolist() for level in random.normal(0, 1, 10)]

    share = coverage(0.0, draw, lambda runs: statistics.quantile(runs, 0.5), trials=200)
    assert share >= 0.9


def test_quantiles_of_runs_of_unequal_size() -> None:
    random = np.random.default_rng(0)
    runs = [random.exponential(1, size).tolist() for size in (400, 0, 100, 900, 300, 200, 500)]
    p95 = statistics.quantile(runs, 0.95)
    assert p95.value == pytest.approx(-math.log(0.05), rel=0.1)
    assert p95.low < p95.value < p95.high
    with pytest.raises(ValueError, match="got none"):
        statistics.quantile([[], []], 0.5)


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(0).normal(1, 1, 20).tolist()
    assert statistics.mean(values, seed=1) == statistics.mean(values, seed=1)
    assert statistics.mean(values, seed=1) != statistics.mean(values, seed=2)


def test_one_run_has_no_interval() -> None:
    assert statistics.mean([2.0]) == Estimate(2, 2, 2)
    assert statistics.quantile([[1.0, 2.0, 3.0]]) == Estimate(2, 2, 2)


@pytest.mark.parametrize(
    ("ours", "theirs"), [([], [1.0]), ([1.0, 0.0], [1.0, 1.0]), ([1.0, 2.0], [1.0, 2.0, 3.0])]
)
def test_ratios_of_invalid_values(ours: list[float], theirs: list[float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        statistics.ratio(ours, theirs, paired=True)
