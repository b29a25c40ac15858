"""The demand: how many answers people request in each hour of the day.

A day has 24 hours of local time, each with a weight. The requests of an hour are a Poisson process, because
many people send them independently. The weights below are assumed: there is no published data for Vietnam.
They follow offices and schools (8:00 to 17:00 with a lunch break) and a longer evening at home.
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
# The weights above have a peak factor of 1.7; the rest allows for days that are busier than the mean.
PEAK_FACTOR = 2.0

_MAX_POWER = 64.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """`users` that request `answers_per_day` each.

    `peak_factor` is the rate of the busiest hour divided by the mean rate of the day; None keeps the factor
    of `shape`. Raises InvalidArgumentError.
    """

    users: float
    answers_per_day: float
    shape: tuple[float, ...] = VIETNAM
    peak_factor: float | None = PEAK_FACTOR

    def __post_init__(self) -> None:
        for name, value, maximum in (
            ("users", self.users, 1e11),
            ("answers_per_day", self.answers_per_day, 1e6),
        ):
            if not 0 < value <= maximum:
                raise binhdan.InvalidArgumentError(
                    f"{name}: expected above 0 and at most {maximum:g}, got {value:g}"
                )
        if len(self.shape) != HOURS or not all(0 <= weight <= 1e12 for weight in self.shape):
            raise binhdan.InvalidArgumentError(
                f"shape: expected {HOURS} weights from 0 to 1e12, one per hour, got {len(self.shape)} "
                f"numbers from {min(self.shape, default=0):g} to {max(self.shape, default=0):g}"
            )
        if not sum(self.shape) > 0:
            raise binhdan.InvalidArgumentError(
                "shape: expected at least 1 hour with a weight above 0, got only 0"
            )
        self.weights()

    @property
    def mean_rate(self) -> float:
        """Requests per second, over the day."""
        return self.users * self.answers_per_day / DAY

    @property
    def peak_rate(self) -> float:
        return max(self.rates())

    def rates(self) -> tuple[float, ...]:
        """Requests per second in each hour of the day."""
        return tuple(weight * self.mean_rate for weight in self.weights())

    def weights(self) -> tuple[float, ...]:
        """The weights of the hours, with a mean of 1.

        To reach `peak_factor`, all weights are raised to the same power: that keeps the order of the hours
        and no weight becomes negative.
        """
        if self.peak_factor is None:
            return _normalised(self.shape)
        maximum = HOURS / self.shape.count(max(self.shape))
        if not 1.0 <= self.peak_factor < maximum:
            raise binhdan.InvalidArgumentError(
                f"peak_factor: expected at least 1 and below {maximum:g} with these weights, "
                f"got {self.peak_factor:g}"
            )
        low, high = 0.0, _MAX_POWER
        while high - low > 1e-9:
            middle = (low + high) / 2
            if max(_normalised(self.shape, middle)) < self.peak_factor:
                low = middle
            else:
                high = middle
        return _normalised(self.shape, high)


def _normalised(shape: Sequence[float], power: float = 1.0) -> tuple[float, ...]:
    top = max(shape)  # the quotients are at most 1, so that no power overflows
    raised = [(weight / top) ** power for weight in shape]
    mean = math.fsum(raised) / len(raised)
    return tuple(weight / mean for weight in raised)
