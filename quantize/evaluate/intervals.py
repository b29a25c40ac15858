"""Confidence intervals by the bootstrap over windows (Efron 1979).

Tokens of one window are correlated, so whole windows are drawn: as many as there are, with replacement, 1,000
times. The interval is from the 2.5 % to the 97.5 % quantile of the statistic. The seed is fixed, so the same
scores give the same interval.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

RESAMPLES: Final = 1000
_LIMITS: Final = (0.025, 0.975)


@dataclass(frozen=True)
class Interval:
    """A value and its 95 % confidence interval; no interval if there is one window only."""

    value: float
    low: float | None = None
    high: float | None = None


def ratio_interval(
    numerators: Sequence[float],
    denominators: Sequence[float],
    transform: Callable[[Any], Any] = lambda ratio: ratio,
    resamples: int = RESAMPLES,
) -> Interval:
    """transform(sum of numerators / sum of denominators), one of each for a window."""
    top, bottom = np.array(numerators, np.float64), np.array(denominators, np.float64)
    value = float(transform(top.sum() / bottom.sum()))
    if len(top) < 2 or resamples == 0:
        return Interval(value)
    drawn = _draw(len(top), resamples)
    values = transform(top[drawn].sum(axis=1) / bottom[drawn].sum(axis=1))
    return _interval(value, values)


def quantile_intervals(
    windows: Sequence[Floats], quantiles: Sequence[float], resamples: int = RESAMPLES
) -> list[Interval]:
    """Quantiles of all values of the windows."""
    values = np.quantile(np.concatenate(windows), quantiles)
    if len(windows) < 2 or resamples == 0:
        return [Interval(float(value)) for value in values]
    resampled = np.array(
        [
            np.quantile(np.concatenate([windows[index] for index in row]), quantiles)
            for row in _draw(len(windows), resamples)
        ]
    )
    return [_interval(float(value), resampled[:, i]) for i, value in enumerate(values)]


def _draw(count: int, resamples: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng(0).integers(0, count, (resamples, count))


def _interval(value: float, values: Floats) -> Interval:
    low, high = np.quantile(values, _LIMITS)
    return Interval(value, float(low), float(high))
