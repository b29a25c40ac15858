"""Formulas of queues, for a first guess and to check the simulation against.

Poisson arrivals, `rate` a second, everywhere; times in seconds. Erlang (1917); Pollaczek and Khinchine (1930,
1932); birth and death: Kleinrock, Queueing Systems, volume 1, chapter 3. All raise InvalidArgumentError when
the queue would grow without end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import binhdan


@dataclass(frozen=True, slots=True)
class MMk:
    """k servers and one queue, first come first served; exponential service, `service_rate` a second each."""

    rate: float
    service_rate: float
    servers: int

    def __post_init__(self) -> None:
        if self.rate <= 0 or self.service_rate <= 0 or self.servers < 1:
            raise binhdan.InvalidArgumentError(
                f"expected rates and servers above 0, got {self.rate:g}, {self.service_rate:g} and "
                f"{self.servers}"
            )
        _stable(self.utilisation)

    @property
    def offered(self) -> float:
        """Servers that would be busy on average if there were enough (erlangs)."""
        return self.rate / self.service_rate

    @property
    def utilisation(self) -> float:
        return self.offered / self.servers

    @property
    def wait_probability(self) -> float:
        """Erlang C, by the recursion of Erlang B, which does not overflow."""
        blocked = 1.0
        for server in range(1, self.servers + 1):
            blocked = self.offered * blocked / (server + self.offered * blocked)
        return blocked / (1.0 - self.utilisation * (1.0 - blocked))

    @property
    def mean_wait(self) -> float:
        return self.wait_probability / (self.servers * self.service_rate - self.rate)

    def wait_percentile(self, share: float) -> float:
        """The wait that this share of the requests does not exceed: who waits at all waits exponentially."""
        over = self.wait_probability / (1.0 - share)
        return max(0.0, math.log(over)) / (self.servers * self.service_rate - self.rate)


def mg1_mean_wait(rate: float, mean: float, mean_square: float) -> float:
    """Of one server, first come first served, with any service time: by the mean of it and of its square."""
    _stable(rate * mean)
    return rate * mean_square / (2.0 * (1.0 - rate * mean))


def shared_mean_time(rate: float, mean: float) -> float:
    """From arrival to end on one server that divides itself evenly among all that are there, with any service
    time of this mean."""
    _stable(rate * mean)
    return mean / (1.0 - rate * mean)


@dataclass(frozen=True, slots=True)
class Batching:
    """One board that works at `speeds[n - 1]` answers a second with n under way, and lets others wait when
    all places are taken; exponential work. (M/M/k is the case of speeds that rise evenly.)"""

    rate: float
    speeds: Sequence[float]

    def __post_init__(self) -> None:
        if not self.speeds or min(self.speeds) <= 0 or self.rate <= 0:
            raise binhdan.InvalidArgumentError("expected a rate and speeds above 0")
        _stable(self.rate / self.speeds[-1])

    def _chances(self) -> list[float]:
        """Of 0, 1, …, all places; the last of all that is beyond too, a geometric series."""
        chances = [1.0]
        for speed in self.speeds:
            chances.append(chances[-1] * self.rate / speed)
        chances[-1] /= 1.0 - self.rate / self.speeds[-1]
        total = math.fsum(chances)
        return [chance / total for chance in chances]

    @property
    def busy(self) -> float:
        """The part of its time in which there is anything to do."""
        return 1.0 - self._chances()[0]

    @property
    def mean_time(self) -> float:
        """From arrival to end: what is there on average, over the rate (Little)."""
        chances, load = self._chances(), self.rate / self.speeds[-1]
        there = math.fsum(count * chance for count, chance in enumerate(chances))
        return (there + chances[-1] * load / (1.0 - load)) / self.rate


def _stable(load: float) -> None:
    if not load < 1:
        raise binhdan.InvalidArgumentError(f"load is {load:g}; the queue is finite only below 1")
