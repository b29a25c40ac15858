"""Medians, percentiles and how sure they are: bootstrap intervals over the runs, the same for the same seed.

Requests of one run are not independent of each other, so that whole runs are drawn again, never single
requests. Intervals are of 95 %. With few runs the percentiles of a bootstrap are too narrow; they are taken
further out, as far as Student's t is wider than the normal distribution (Hesterberg 2015, "What teachers
should know about the bootstrap", section 5.4).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95

_Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its interval; of a single run low and high are the value itself."""

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Of the interval, as a share of the value."""
        return (self.high - self.low) / 2 / abs(self.value) if self.value else math.inf

    def contains(self, value: float) -> bool:
        return self.low <= value <= self.high


def percentile(values: Sequence[float], share: float) -> float:
    """Between two values where none stands at it. Raises ValueError for no values."""
    if not values:
        raise ValueError("expected at least one value, got none")
    return float(np.quantile(np.asarray(values, dtype=np.float64), share))


def quantile(runs: Sequence[Sequence[float]], share: float = 0.5, *, seed: int = 0) -> Estimate:
    """The percentile of the values of all runs. Raises ValueError for no values."""
    known = [run for run in runs if len(run)]
    values = np.concatenate([np.asarray(run, dtype=np.float64) for run in known] or [np.empty(0)])
    if not values.size:
        raise ValueError("expected at least one value, got none")
    run_of = np.repeat(np.arange(len(known)), [len(run) for run in known])
    order = np.argsort(values, kind="stable")
    values, run_of = values[order], run_of[order]
    # How often each run was drawn is how much each of its values weighs.
    weights = np.cumsum(_draws(len(known), seed)[:, run_of], axis=1, dtype=np.float64)
    at = np.argmax(weights >= share * weights[:, -1:] - 1e-9, axis=1)
    return _estimate(float(np.quantile(values, share)), values[at], len(known))


def mean(values: Sequence[float], *, seed: int = 0) -> Estimate:
    """The mean of one value for each run. Raises ValueError for no values."""
    array = np.asarray(values, dtype=np.float64)
    if not array.size:
        raise ValueError("expected at least one value, got none")
    return _estimate(float(array.mean()), _means(array, seed), array.size)


def ratio(ours: Sequence[float], theirs: Sequence[float], *, paired: bool, seed: int = 0) -> Estimate:
    """The geometric mean of `ours` over that of `theirs`, one positive value for each run.

    `paired`: run i of both was made at the same time, so that what disturbed one disturbed the other.
    Raises ValueError for values that are not positive, and for pairs of unequal number.
    """
    a, b = (np.asarray(values, dtype=np.float64) for values in (ours, theirs))
    if not a.size or not b.size or not (a > 0).all() or not (b > 0).all():
        raise ValueError("expected positive values of at least one run on both sides")
    if not paired:
        logs = np.log(a).mean() - np.log(b).mean()
        drawn = _means(np.log(a), seed) - _means(np.log(b), seed + 1)
        return _exp(_estimate(float(logs), drawn, min(a.size, b.size)))
    if a.size != b.size:
        raise ValueError(f"expected pairs of runs, got {a.size} and {b.size}")
    return _exp(mean((np.log(a) - np.log(b)).tolist(), seed=seed))


def student_t(share: float, freedom: int) -> float:
    """The quantile of Student's t, by its expansion around the normal's (Abramowitz and Stegun, 26.7.5).

    Within 1 % from 4 degrees of freedom on for the quantiles that intervals of 95 % ask for.
    """
    x, n = NormalDist().inv_cdf(share), freedom
    terms = (
        (x**3 + x) / 4,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
        (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92160,
    )
    return x + math.fsum(term / n**power for power, term in enumerate(terms, 1))


def _draws(runs: int, seed: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """How often each run is drawn, (RESAMPLES, runs)."""
    random = np.random.default_rng(seed)
    return random.multinomial(runs, np.full(runs, 1 / runs), size=RESAMPLES)


def _means(values: _Floats, seed: int) -> _Floats:
    means: _Floats = _draws(values.size, seed) @ values / values.size
    return means


def _estimate(value: float, drawn: _Floats, runs: int) -> Estimate:
    if runs < 2:
        return Estimate(value, value, value)
    tail = (1 - LEVEL) / 2
    further = NormalDist().cdf(student_t(tail, runs - 1) * math.sqrt(runs / (runs - 1)))
    low, high = np.quantile(drawn, (further, 1 - further))
    return Estimate(value, min(float(low), value), max(float(high), value))


def _exp(estimate: Estimate) -> Estimate:
    return Estimate(*(math.exp(value) for value in (estimate.value, estimate.low, estimate.high)))
