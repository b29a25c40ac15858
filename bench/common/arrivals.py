"""When requests are sent: the one closed loop and the one open loop of all load measurements.

Closed loop: each user sends its next request when its previous answer has ended. Open loop: requests are sent
at the times of a Poisson process, whether or not earlier answers have ended. An overloaded server slows a
closed loop down; in an open loop the overload appears in the tail latencies.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from time import perf_counter
from typing import TypeVar

from binhdan.runtime.errors import InvalidArgumentError

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """`users` that send `requests` each."""

    users: int = 16
    requests: int = 4

    def __post_init__(self) -> None:
        if self.users < 1 or self.requests < 1:
            raise InvalidArgumentError(
                "closed loop: expected at least 1 user and 1 request per user, "
                f"got {self.users} and {self.requests}"
            )

    @property
    def total(self) -> int:
        return self.users * self.requests

    def __str__(self) -> str:
        return f"{self.users} users" if self.users > 1 else "1 user"


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """`requests` in total, `rate` per second on average, at the times of a Poisson process."""

    rate: float
    requests: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.rate > 0 or self.requests < 1:
            raise InvalidArgumentError(
                "open loop: expected a rate above 0 and at least 1 request, "
                f"got {self.rate:g} and {self.requests}"
            )

    @property
    def total(self) -> int:
        return self.requests

    def times(self) -> list[float]:
        """Seconds from the start, ascending; one for each request."""
        return list(islice(poisson_times(self.rate, random.Random(self.seed)), self.requests))

    def __str__(self) -> str:
        return f"{self.rate:g} requests/s"


Arrivals = Closed | Open


def poisson_times(rate: float, rng: random.Random) -> Iterator[float]:
    """Times of a Poisson process with `rate` events per second, in seconds from the start; never ends."""
    now = 0.0
    while True:
        now += rng.expovariate(rate)
        yield now


async def send_all(
    items: Sequence[Item], arrivals: Arrivals, send: Callable[[Item, float], Awaitable[Result]]
) -> list[Result]:
    """Calls `send(item, due)` for each item and returns the results in the order of `items`.

    `due` is the perf_counter time at which the item had to be sent. In a closed loop, user u sends items u, u
    + users, u + 2 * users, ...; in an open loop, item i is sent at time i, so that there must be as many
    items as `arrivals.requests`.
    """
    results: dict[int, Result] = {}

    async def closed_user(first: int, users: int) -> None:
        for index in range(first, len(items), users):
            results[index] = await send(items[index], perf_counter())

    async def open_user(index: int, due: float) -> None:
        await asyncio.sleep(due - perf_counter())
        results[index] = await send(items[index], due)

    if isinstance(arrivals, Closed):
        await asyncio.gather(*(closed_user(first, arrivals.users) for first in range(arrivals.users)))
    else:
        times = arrivals.times()
        if len(times) != len(items):
            raise ValueError(f"open loop: expected {len(times)} items, got {len(items)}")
        start = perf_counter()
        await asyncio.gather(*(open_user(index, start + time) for index, time in enumerate(times)))
    return [results[index] for index in range(len(items))]
