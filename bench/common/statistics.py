"""Medians, percentiles and their 95 % confidence intervals: a bootstrap over runs, repeatable for a seed.

Requests of one run depend on each other, so the bootstrap resamples whole runs, never single requests. With
few runs the percentiles of a bootstrap are too narrow. They are moved out by the ratio of Student's t to the
normal distribution (Hesterberg 2015, "What Teachers Should Know About the Bootstrap", section 5.4).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, median
from typing import Any

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95

_Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its confidence interval. After a single run, low and high equal the value."""

    value: float
    low: float
    high: float

    def contains(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class Spread:
    """The median, the smallest and the largest of some values."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        """Raises ValueError for no values."""
        _check_any(values)
        return Spread(median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Percentiles:
    """The median, the 95th and the 99th percentile, interpolated between neighbouring values."""

    p50: float
    p95: float
    p99: float

    @staticmethod
    def of(values: Sequence[float]) -> Percentiles:
        """Raises ValueError for no values."""
        _check_any(values)
        return Percentiles(*np.quantile(np.asarray(values, dtype=np.float64), (0.5, 0.95, 0.99)).tolist())


def percentile(values: Sequence[float], share: float) -> float:
    """Interpolated between neighbouring values. Raises ValueError for no values."""
    _check_any(values)
    return float(np.quantile(np.asarray(values, dtype=np.float64), share))


def geometric_mean(values: Sequence[float]) -> float:
    """Of positive values. Raises ValueError for no values."""
    _check_any(values)
    return math.exp(math.fsum(map(math.log, values)) / len(values))


def quantile(runs: Sequence[Sequence[float]], share: float = 0.5, *, seed: int = 0) -> Estimate:
    """A percentile of the values of all runs together. Raises ValueError for no values."""
    filled = [run for run in runs if len(run)]
    _check_any(filled)
    values = np.concatenate([np.asarray(run, dtype=np.float64) for run in filled])
    run_of = np.repeat(np.arange(len(filled)), [len(run) for run in filled])
    order = np.argsort(values, kind="stable")
    values, run_of = values[order], run_of[order]
    # A value weighs as much as the number of times that its run was drawn.
    weights = np.cumsum(_draws(len(filled), seed)[:, run_of], axis=1, dtype=np.float64)
    at = np.argmax(weights >= share * weights[:, -1:] - 1e-9, axis=1)
    return _estimate(float(np.quantile(values, share)), values[at], len(filled))


def mean(values: Sequence[float], *, seed: int = 0) -> Estimate:
    """The mean of one value per run. Raises ValueError for no values."""
    _check_any(values)
    array = np.asarray(values, dtype=np.float64)
    return _estimate(float(array.mean()), _means(array, seed), array.size)


def ratio(ours: Sequence[float], theirs: Sequence[float], *, paired: bool, seed: int = 0) -> Estimate:
    """The geometric mean of `ours` divided by that of `theirs`; one positive value per run.

    `paired`: run i of both sides was made at the same time, under the same disturbances. Raises ValueError
    for values that are not positive, and for unequal numbers of paired runs.
    """
    a, b = (np.asarray(values, dtype=np.float64) for values in (ours, theirs))
    if not a.size or not b.size or not (a > 0).all() or not (b > 0).all():
        raise ValueError(
            f"expected positive values of at least 1 run on both sides, got {a.size} and {b.size} values"
        )
    if not paired:
        logs = np.log(a).mean() - np.log(b).mean()
        drawn = _means(np.log(a), seed) - _means(np.log(b), seed + 1)
        return _exp(_estimate(float(logs), drawn, min(a.size, b.size)))
    if a.size != b.size:
        raise ValueError(f"expected as many runs on both sides, got {a.size} and {b.size}")
    return _exp(mean((np.log(a) - np.log(b)).tolist(), seed=seed))


def student_t(share: float, freedom: int) -> float:
    """The quantile of Student's t, by its expansion around the normal quantile (Abramowitz and Stegun,
    26.7.5).

    The error is below 1 % from 4 degrees of freedom on, for the quantiles that 95 % intervals need.
    """
    x, n = NormalDist().inv_cdf(share), freedom
    terms = (
        (x**3 + x) / 4,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
        (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92160,
    )
    return x + math.fsum(term / n**power for power, term in enumerate(terms, 1))


def _check_any(values: Sequence[object]) -> None:
    if not len(values):
        raise ValueError("expected at least 1 value, got none")


def _draws(runs: int, seed: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """How often each run is drawn in each resample; shape (RESAMPLES, runs)."""
    random = np.random.default_rng(seed)
    return random.multinomial(runs, np.full(runs, 1 / runs), size=RESAMPLES)


def _means(values: _Floats, seed: int) -> _Floats:
    means: _Floats = _draws(values.size, seed) @ values / values.size
    return means


def _estimate(value: float, drawn: _Floats, runs: int) -> Estimate:
    if runs < 2:
        return Estimate(value, value, value)
    tail = (1 - LEVEL) / 2
    outer = NormalDist().cdf(student_t(tail, runs - 1) * math.sqrt(runs / (runs - 1)))
    low, high = np.quantile(drawn, (outer, 1 - outer))
    return Estimate(value, min(float(low), value), max(float(high), value))


def _exp(estimate: Estimate) -> Estimate:
    return Estimate(*(math.exp(value) for value in (estimate.value, estimate.low, estimate.high)))
