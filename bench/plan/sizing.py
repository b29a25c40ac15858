"""How many boards keep the answers of the peak within a time.

A country needs more boards than can be simulated, and than one balancer can know. So the fleet is cells: a
balancer and `cell` boards each, and requests go to a cell at random. Random parts of a Poisson process are
Poisson processes, so that each cell sees its own with the cell's part of the rate, and one simulated cell
stands for all of them. What this assumes: requests are spread evenly over the cells, and a full cell sends
nothing to others. One balancer over all boards would do no worse: larger pools are smoother. The load per
board is what decides; a fleet smaller than a cell is simulated as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import binhdan
from binhdan.bench.common.statistics import Spread
from binhdan.bench.plan.queueing import Batching
from binhdan.bench.plan.simulate import Pool, Run, Work, simulate

# Of what a board can give with all places taken; nearer to it, a queue grows with every small thing that the
# simulation does not know.
MOST_LOAD = 0.85
TOLERANCE = 0.005  # of the number of boards
_MOST_TIMES = 1000  # as many boards as the load alone needs


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Boards alike, in cells, and how they are simulated: `seeds` runs of `answers` each."""

    speeds: tuple[float, ...]
    work: Work
    cell: int = 16
    most_load: float = MOST_LOAD
    answers: int = 4_000
    seeds: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        ranges: Sequence[tuple[str, float, float, float]] = (
            ("cell", self.cell, 1, 256),
            ("answers", self.answers, 100, 1_000_000),
            ("seeds", self.seeds, 1, 100),
            ("most_load", self.most_load, 0.01, 0.98),
        )
        for name, value, least, most in ranges:
            if not least <= value <= most:
                raise binhdan.InvalidArgumentError(f"{name} is {value:g}; expected {least:g} to {most:,g}")

    def runs(self, boards: int, rate: float) -> list[Run]:
        """One cell of a fleet of `boards` that gets `rate` requests a second together."""
        size = min(boards, self.cell)
        pool = Pool(boards=size, speeds=self.speeds)
        share = rate * size / boards
        return [
            simulate(pool, share, self.work, answers=self.answers, seed=self.seed + number)
            for number in range(self.seeds)
        ]

    def p95(self, boards: int, rate: float) -> Spread:
        """Seconds from arrival to end of whole answers, over the seeds."""
        return Spread.of([run.whole.p95 for run in self.runs(boards, rate)])

    def least_boards(self, rate: float) -> int:
        """That the load alone asks for."""
        return math.ceil(rate / (self.most_load * self.speeds[-1]))

    @property
    def alone_p95(self) -> float:
        """Of a board that has nothing else to do: no number of boards is faster."""
        return self.work.p95() / self.speeds[0]


def boards_needed(fleet: Fleet, rate: float, p95_s: float) -> int:
    """The fewest boards, within TOLERANCE, whose p95 of whole answers (the median of the seeds) is at most
    `p95_s` seconds at `rate` requests a second. Raises InvalidArgumentError when no number is enough."""
    if not p95_s > 0 or not rate > 0:
        raise binhdan.InvalidArgumentError(
            f"expected a time and a rate above 0, got {p95_s:g} s and {rate:g}/s"
        )
    if fleet.alone_p95 >= p95_s:
        raise binhdan.InvalidArgumentError(
            f"a p95 of {p95_s:g} s is out of reach: a board that does nothing else needs "
            f"{fleet.alone_p95:.1f} s"
        )
    least = fleet.least_boards(rate)

    def enough(boards: int) -> bool:
        return fleet.p95(boards, rate).median <= p95_s

    low, high = _bracket(enough, least, max(least, first_guess(fleet, rate, p95_s)))
    while high - low > max(1, TOLERANCE * high):
        middle = (low + high) // 2
        if enough(middle):
            high = middle
        else:
            low = middle
    return high


def _bracket(enough: Callable[[int], bool], least: int, guess: int) -> tuple[int, int]:
    """Too few boards (or one below the least) and enough of them, by steps that double from a guess."""
    low, high, step = least - 1, guess, 0.02
    if enough(guess):
        while high > least:
            fewer = max(least, math.floor(high * (1 - min(step, 0.5))))
            if not enough(fewer):
                return fewer, high
            high, step = fewer, 2 * step
        return low, high
    while high < _MOST_TIMES * least:
        low, high, step = high, math.ceil(high * (1 + step)), 2 * step
        if enough(high):
            return low, high
    raise binhdan.InvalidArgumentError(
        f"{high:,} boards are not enough; the time is too close to what an answer needs alone"
    )


def first_guess(fleet: Fleet, rate: float, p95_s: float) -> int:
    """By formula: boards that do not help each other, exponential work, and a p95 that is to the mean time as
    the work's own is to its mean."""
    mean_s = p95_s / fleet.work.p95()
    low, high = 0.0, fleet.most_load
    while high - low > 1e-4:
        load = (low + high) / 2
        if Batching(load * fleet.speeds[-1], fleet.speeds).mean_time <= mean_s:
            low = load
        else:
            high = load
    return math.ceil(rate / (max(low, 1e-3) * fleet.speeds[-1]))
