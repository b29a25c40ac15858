"""Which cells are measured: workloads, asked by so many users, with a known prefix or not; and in which order
they are left out when the time does not suffice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import binhdan
from binhdan.bench.suite.result import Arrival, Prefix
from binhdan.bench.suite.workloads import NAMES

USERS = (1, 2, 4, 8, 16)
ROUNDS = 10
BUDGET_SECONDS = 200.0  # of the default run, which also probes the machine
OPEN_LOAD = 0.7  # of what the closed loop reached
# Each user asks twice: the second questions come when the others are at different places of theirs.
QUESTIONS_PER_USER = 2
LEAST_QUESTIONS = 4
OPEN_QUESTIONS = 12


@dataclass(frozen=True, slots=True)
class Spot:
    """A cell to be measured. The rate of an open one is found when the closed ones are known."""

    workload: str
    arrival: Arrival
    prefix: Prefix

    @property
    def questions(self) -> int:
        if self.arrival.kind == "open":
            return OPEN_QUESTIONS
        return max(LEAST_QUESTIONS, QUESTIONS_PER_USER * (self.arrival.users or 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is asked for. Raises InvalidArgumentError for values out of range."""

    workloads: tuple[str, ...] = NAMES
    users: tuple[int, ...] = USERS
    prefixes: tuple[Prefix, ...] = ("cold", "warm")
    open_load: float = OPEN_LOAD  # 0: no open arrivals
    rounds: int = ROUNDS
    warm_up_rounds: int = 1
    budget_seconds: float | None = BUDGET_SECONDS  # None: all cells, however long it takes
    seed: int = 0

    def __post_init__(self) -> None:
        for users in self.users:
            if not 1 <= users <= 1024:
                raise binhdan.InvalidArgumentError(f"users: expected 1 to 1024, got {users}")
        if not self.workloads or not (self.users or self.open_load) or not self.prefixes:
            raise binhdan.InvalidArgumentError("expected at least one workload, one arrival and one prefix")
        if not 0 <= self.open_load < 1:
            raise binhdan.InvalidArgumentError(f"open load: expected 0 to 1, got {self.open_load:g}")
        if not 1 <= self.rounds <= 1000 or not 0 <= self.warm_up_rounds <= 100:
            raise binhdan.InvalidArgumentError(
                f"expected 1 to 1000 rounds and 0 to 100 to warm up, got {self.rounds}, {self.warm_up_rounds}"
            )
        if self.budget_seconds is not None and self.budget_seconds <= 0:
            raise binhdan.InvalidArgumentError(f"budget: expected more than 0 s, got {self.budget_seconds:g}")


def spots(settings: Settings, with_prefix: Iterable[str]) -> list[Spot]:
    """All cells, the most telling ones first: one user, then many, then the numbers between, then at random
    times; cold before warm. `with_prefix`: the workloads in which something stands before the question."""
    known = frozenset(with_prefix)
    users = sorted(set(settings.users))
    order = [*users[:1], *users[:0:-1]]
    arrivals = [Arrival(kind="closed", users=count) for count in order]
    if settings.open_load:
        arrivals.insert(min(2, len(arrivals)), Arrival(kind="open"))
    return [
        Spot(workload, arrival, prefix)
        for arrival in arrivals
        for prefix in sorted(set(settings.prefixes))
        for workload in settings.workloads
        if prefix == "cold" or workload in known
    ]


def fitting(
    wanted: Sequence[Spot], seconds: Sequence[float], rounds: int, budget: float | None
) -> tuple[list[Spot], list[Spot]]:
    """The first of `wanted` that fit into the budget when each takes so many `seconds` a round, and the
    others. The cells of the first arrival stay, whatever they take: a run without them tells nothing."""
    if budget is None:
        return list(wanted), []
    chosen, left, spent = [], [], 0.0
    for spot, cost in zip(wanted, seconds, strict=True):
        must = spot.arrival == wanted[0].arrival and spot.prefix == wanted[0].prefix
        if must or spent + cost * rounds <= budget:
            chosen.append(spot)
            spent += cost * rounds
        else:
            left.append(spot)
    return chosen, left
