"""The queueing formula from which the search for the number of boards starts.

A birth-death process: Kleinrock, Queueing Systems, volume 1, chapter 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import binhdan


@dataclass(frozen=True, slots=True)
class Batching:
    """One board that completes `speeds[n - 1]` answers per second while n are running.

    When `len(speeds)` answers are running, further requests wait. Requests are a Poisson process of `rate`
    per second; the work per answer is exponential. M/M/k is the special case of speeds 1, 2, ..., k. Times
    are in seconds. Raises InvalidArgumentError when the queue would grow without bound.
    """

    rate: float
    speeds: Sequence[float]

    def __post_init__(self) -> None:
        if not self.speeds or min(self.speeds) <= 0 or self.rate <= 0:
            raise binhdan.InvalidArgumentError(
                f"expected a rate and speeds above 0, got {self.rate:g} and {list(self.speeds[:9])}"
            )
        load = self.rate / self.speeds[-1]
        if not load < 1:
            raise binhdan.InvalidArgumentError(
                f"load (rate divided by the highest speed): expected below 1 for a finite queue, got {load:g}"
            )

    def _probabilities(self) -> list[float]:
        """Of 0, 1, ..., len(speeds) requests on the board. The last one includes all longer queues, a
        geometric series."""
        weights = [1.0]
        for speed in self.speeds:
            weights.append(weights[-1] * self.rate / speed)
        weights[-1] /= 1.0 - self.rate / self.speeds[-1]
        total = math.fsum(weights)
        return [weight / total for weight in weights]

    @property
    def busy(self) -> float:
        """The share of its time in which the board computes."""
        return 1.0 - self._probabilities()[0]

    @property
    def mean_time(self) -> float:
        """Mean time from arrival to end, by Little's law: the mean number of requests divided by the rate."""
        probabilities, load = self._probabilities(), self.rate / self.speeds[-1]
        requests = math.fsum(count * probability for count, probability in enumerate(probabilities))
        return (requests + probabilities[-1] * load / (1.0 - load)) / self.rate
