"""Sizing: the number of boards that keeps the latency at the peak below a limit.

A country needs more boards than one load balancer can manage and one simulation can handle. So the fleet
consists of cells. A cell is a load balancer with `cell` boards, and each request goes to a random cell. A
random part of a Poisson process is a Poisson process, so one simulated cell with its part of the rate
represents all cells. A fleet smaller than a cell is simulated as a whole.

Assumptions: requests are spread evenly over the cells, and a full cell forwards nothing to other cells. One
balancer over all boards would perform at least as well, because larger pools smooth out fluctuations.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import binhdan
from binhdan.bench.common.ranges import check_range
from binhdan.bench.common.statistics import Spread
from binhdan.bench.plan.queueing import Batching
from binhdan.bench.plan.simulate import Pool, Run, Work, simulate

# Share of the highest answer rate of a board. Close to 1, every effect that the simulation omits makes the
# queue grow.
MAX_LOAD = 0.85
TOLERANCE = 0.005  # of the number of boards
_MAX_FACTOR = 1000  # limit of the search, relative to the number of boards that the load alone needs


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Identical boards in cells, and the parameters of their simulation: `seeds` runs of `answers` each."""

    speeds: tuple[float, ...]
    work: Work
    cell: int = 16
    max_load: float = MAX_LOAD
    answers: int = 4_000
    seeds: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        check_range("cell", self.cell, 1, 256)
        check_range("answers", self.answers, 100, 1_000_000)
        check_range("seeds", self.seeds, 1, 100)
        check_range("max_load", self.max_load, 0.01, 0.98)

    def runs(self, boards: int, rate: float) -> list[Run]:
        """Simulates one cell of a fleet of `boards` boards that gets `rate` requests per second in total."""
        size = min(boards, self.cell)
        pool = Pool(boards=size, speeds=self.speeds)
        share = rate * size / boards
        return [
            simulate(pool, share, self.work, answers=self.answers, seed=self.seed + number)
            for number in range(self.seeds)
        ]

    def p95(self, boards: int, rate: float) -> Spread:
        """The p95 latency of complete answers in seconds, over the seeds."""
        return Spread.of([run.latency.p95 for run in self.runs(boards, rate)])

    def min_boards(self, rate: float) -> int:
        """The number of boards at which the load per board is `max_load`."""
        return math.ceil(rate / (self.max_load * self.speeds[-1]))

    @property
    def idle_p95(self) -> float:
        """The p95 latency of an answer that runs alone on a board, in seconds. No fleet is faster."""
        return self.work.p95() / self.speeds[0]


def boards_needed(fleet: Fleet, rate: float, p95_s: float) -> int:
    """The smallest number of boards, within TOLERANCE, whose p95 latency (the median of the seeds) is at most
    `p95_s` seconds at `rate` requests per second. Raises InvalidArgumentError when no number is enough."""
    if not p95_s > 0 or not rate > 0:
        raise binhdan.InvalidArgumentError(
            f"expected a p95 latency and a rate above 0, got {p95_s:g} s and {rate:g}/s"
        )
    if fleet.idle_p95 >= p95_s:
        raise binhdan.InvalidArgumentError(
            f"a p95 of {p95_s:g} s is out of reach: an answer alone on a board needs {fleet.idle_p95:.1f} s; "
            "choose a longer p95 or measure a faster board"
        )
    minimum = fleet.min_boards(rate)

    def enough(boards: int) -> bool:
        return fleet.p95(boards, rate).median <= p95_s

    low, high = _bracket(enough, minimum, max(minimum, first_guess(fleet, rate, p95_s)))
    while high - low > max(1, TOLERANCE * high):
        middle = (low + high) // 2
        if enough(middle):
            high = middle
        else:
            low = middle
    return high


def _bracket(enough: Callable[[int], bool], minimum: int, guess: int) -> tuple[int, int]:
    """A number of boards that is too small (or minimum - 1) and one that is enough, by doubling steps from a
    guess."""
    low, high, step = minimum - 1, guess, 0.02
    if enough(guess):
        while high > minimum:
            fewer = max(minimum, math.floor(high * (1 - min(step, 0.5))))
            if not enough(fewer):
                return fewer, high
            high, step = fewer, 2 * step
        return low, high
    while high < _MAX_FACTOR * minimum:
        low, high, step = high, math.ceil(high * (1 + step)), 2 * step
        if enough(high):
            return low, high
    raise binhdan.InvalidArgumentError(
        f"{high:,} boards are not enough: the p95 limit is too close to the latency of an answer alone "
        "on a board; choose a longer p95"
    )


def first_guess(fleet: Fleet, rate: float, p95_s: float) -> int:
    """An estimate by formula. It assumes boards with separate queues, exponential work, and the same ratio of
    p95 to mean for the latency as for the work."""
    mean_s = p95_s / fleet.work.p95()
    low, high = 0.0, fleet.max_load
    while high - low > 1e-4:
        load = (low + high) / 2
        if Batching(load * fleet.speeds[-1], fleet.speeds).mean_time <= mean_s:
            low = load
        else:
            high = load
    return math.ceil(rate / (max(low, 1e-3) * fleet.speeds[-1]))
