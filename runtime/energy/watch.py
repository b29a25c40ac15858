"""Energy of intervals of work: gross, and above the idle consumption."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from binhdan.runtime.energy.meter import Meter


@dataclass(frozen=True, slots=True)
class Idle:
    """The machine's idle consumption."""

    watts: float  # the mean
    min_watts: float  # of the windows; far below max_watts, the machine was not idle
    max_watts: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Energy:
    """The energy of one interval, and how it was measured."""

    joules: float  # gross
    above_idle: float | None  # None when idle was not measured
    seconds: float
    source: str
    sampling_hz: float
    measured: bool

    @property
    def watts(self) -> float:
        return self.joules / self.seconds if self.seconds > 0 else 0.0


def measure_idle(
    meter: Meter,
    seconds: float = 10.0,
    windows: int = 5,
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Idle:
    """Watts while this process sleeps, over `windows` equal windows. Raises MeterError, ValueError."""
    if seconds <= 0 or windows < 1:
        raise ValueError(f"expected seconds > 0 and windows >= 1, got {seconds} and {windows}")
    points = [(clock(), meter.read())]
    for _ in range(windows):
        sleep(seconds / windows)
        points.append((clock(), meter.read()))
    watts = [(j1 - j0) / (t1 - t0) for (t0, j0), (t1, j1) in pairwise(points)]
    (first, start), (last, end) = points[0], points[-1]
    return Idle((end - start) / (last - first), min(watts), max(watts), last - first)


class EnergyWatch:
    """A stopwatch for joules: each lap is the energy since the previous lap."""

    def __init__(
        self, meter: Meter, idle: Idle | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._meter, self._idle, self._clock = meter, idle, clock
        self._when, self._joules = clock(), meter.read()

    def lap(self) -> Energy:
        """Raises MeterError. `above_idle` may be slightly negative, by the noise of both measurements."""
        now, joules = self._clock(), self._meter.read()
        seconds, gross = now - self._when, joules - self._joules
        self._when, self._joules = now, joules
        return Energy(
            joules=gross,
            above_idle=None if self._idle is None else gross - self._idle.watts * seconds,
            seconds=seconds,
            source=self._meter.source,
            sampling_hz=self._meter.sampling_hz,
            measured=self._meter.measured,
        )
