"""Queueing formulas as an independent reference for the simulation.

Requests are a Poisson process of `rate` per second; times are in seconds. Sources: Erlang (1917); Pollaczek
(1930) and Khinchine (1932); Kleinrock, Queueing Systems, volume 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MMk:
    """k servers with one queue, first come, first served; exponential service of `service_rate` per second
    each."""

    rate: float
    service_rate: float
    servers: int

    @property
    def offered(self) -> float:
        """The mean number of busy servers (erlangs)."""
        return self.rate / self.service_rate

    @property
    def utilisation(self) -> float:
        return self.offered / self.servers

    @property
    def wait_probability(self) -> float:
        """Erlang C, from the recursion of Erlang B, which does not overflow."""
        blocked = 1.0
        for server in range(1, self.servers + 1):
            blocked = self.offered * blocked / (server + self.offered * blocked)
        return blocked / (1.0 - self.utilisation * (1.0 - blocked))

    @property
    def mean_wait(self) -> float:
        return self.wait_probability / (self.servers * self.service_rate - self.rate)

    def wait_percentile(self, share: float) -> float:
        """The wait that `share` of the requests do not exceed. The waits of waiting requests are
        exponential."""
        excess = self.wait_probability / (1.0 - share)
        return max(0.0, math.log(excess)) / (self.servers * self.service_rate - self.rate)


def mg1_mean_wait(rate: float, mean: float, mean_square: float) -> float:
    """M/G/1, first come, first served: any service time with this mean and this mean of its square."""
    return rate * mean_square / (2.0 * (1.0 - rate * mean))


def processor_sharing_mean_time(rate: float, mean: float) -> float:
    """M/G/1 with processor sharing: the mean time from arrival to end, for any service time with this
    mean."""
    return mean / (1.0 - rate * mean)
