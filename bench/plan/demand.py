"""How many answers people ask for, hour by hour.

A day is 24 hours of local time with a weight each; requests of one hour come as a Poisson process, as those
of many people who do not know of each other do. The shape below is assumed: nobody publishes how Vietnam
asks. It follows the day of offices and schools (8:00 to 17:00, a lunch break) and a longer evening at home.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import binhdan

DAY = 86_400.0  # seconds
HOURS = 24
VIETNAM = (
    *(0.45, 0.25, 0.15, 0.12, 0.15, 0.30),  # from 0:00, UTC+7
    *(0.60, 0.90, 1.25, 1.45, 1.45, 1.35),  # from 6:00
    *(1.20, 1.25, 1.40, 1.40, 1.30, 1.15),  # from 12:00
    *(1.20, 1.50, 1.75, 1.75, 1.35, 0.80),  # from 18:00
)
# The shape's own is 1.7; the rest is for days busier than the mean.
PEAK_FACTOR = 2.0

_STEEPEST = 64.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """`users` with `answers_per_day` each. `peak_factor`: the busiest hour's rate over the day's mean; None
    is the shape's own. Raises InvalidArgumentError."""

    users: float
    answers_per_day: float
    shape: tuple[float, ...] = VIETNAM
    peak_factor: float | None = PEAK_FACTOR

    def __post_init__(self) -> None:
        for name, value, most in (
            ("users", self.users, 1e11),
            ("answers_per_day", self.answers_per_day, 1e6),
        ):
            if not 0 < value <= most:
                raise binhdan.InvalidArgumentError(f"{name} is {value:g}; expected above 0, to {most:g}")
        if len(self.shape) != HOURS or not all(0 <= weight <= 1e12 for weight in self.shape):
            raise binhdan.InvalidArgumentError(
                f"expected {HOURS} weights of hours, none below 0, got {len(self.shape)} numbers"
            )
        if not sum(self.shape) > 0:
            raise binhdan.InvalidArgumentError("expected an hour with a weight above 0")
        self.weights()

    @property
    def mean_rate(self) -> float:
        """Requests a second."""
        return self.users * self.answers_per_day / DAY

    @property
    def peak_rate(self) -> float:
        return max(self.rates())

    @property
    def peak_hour(self) -> int:
        rates = self.rates()
        return rates.index(max(rates))

    def rates(self) -> tuple[float, ...]:
        """Requests a second in each hour of the day."""
        return tuple(weight * self.mean_rate for weight in self.weights())

    def weights(self) -> tuple[float, ...]:
        """Of the hours, 1 on average. A peak that is not the shape's own comes of raising all weights to one
        power: nights grow quieter as evenings grow busier, and no hour falls below 0."""
        if self.peak_factor is None:
            return _normalised(self.shape)
        most = HOURS / self.shape.count(max(self.shape))
        if not 1.0 <= self.peak_factor < most:
            raise binhdan.InvalidArgumentError(
                f"peak_factor is {self.peak_factor:g}; expected from 1 to below {most:g} with this shape"
            )
        low, high = 0.0, _STEEPEST
        while high - low > 1e-9:
            middle = (low + high) / 2
            if max(_normalised(self.shape, middle)) < self.peak_factor:
                low = middle
            else:
                high = middle
        return _normalised(self.shape, high)


def _normalised(shape: Sequence[float], power: float = 1.0) -> tuple[float, ...]:
    top = max(shape)  # below 1 for all others, so that no power overflows
    raised = [(weight / top) ** power for weight in shape]
    mean = math.fsum(raised) / len(raised)
    return tuple(weight / mean for weight in raised)
