"""Benchmark cases: a workload, an arrival (users or random times) and a cold or warm prefix.

`all_cases` lists them by importance; `fitting` selects those that fit into the time budget.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import binhdan
from binhdan.bench.suite.result import Arrival, Prefix, case_key
from binhdan.bench.suite.workloads import NAMES

USERS = (1, 2, 4, 8, 16)
ROUNDS = 10
BUDGET_SECONDS = 200.0  # of the default run; the probe takes additional time
OPEN_LOAD = 0.7  # share of the highest rate that closed arrivals reached
# Two requests per user: the second ones are sent while other users are in the middle of theirs.
QUESTIONS_PER_USER = 2
MIN_QUESTIONS = 4
OPEN_QUESTIONS = 12


@dataclass(frozen=True, slots=True)
class Case:
    """One configuration to measure. The rate of open arrivals is set after the closed cases have run."""

    workload: str
    arrival: Arrival
    prefix: Prefix

    @property
    def questions(self) -> int:
        """Requests of one trial."""
        if self.arrival.kind == "open":
            return OPEN_QUESTIONS
        return max(MIN_QUESTIONS, QUESTIONS_PER_USER * (self.arrival.users or 1))

    @property
    def key(self) -> str:
        return case_key(self.workload, self.arrival, self.prefix)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The cases to measure and how often. Raises InvalidArgumentError for values out of range."""

    workloads: tuple[str, ...] = NAMES
    users: tuple[int, ...] = USERS
    prefixes: tuple[Prefix, ...] = ("cold", "warm")
    open_load: float = OPEN_LOAD  # 0: no open arrivals
    rounds: int = ROUNDS
    warm_up_rounds: int = 1
    budget_seconds: float | None = BUDGET_SECONDS  # None: all cases, without a time limit
    seed: int = 0

    def __post_init__(self) -> None:
        for users in self.users:
            if not 1 <= users <= 1024:
                raise binhdan.InvalidArgumentError(f"users: expected 1 to 1024, got {users}")
        if not self.workloads or not (self.users or self.open_load) or not self.prefixes:
            raise binhdan.InvalidArgumentError(
                "expected at least one workload, one arrival (users or open load) and one prefix, "
                f"got workloads {self.workloads}, users {self.users}, open load {self.open_load:g}, "
                f"prefixes {self.prefixes}"
            )
        if not 0 <= self.open_load < 1:
            raise binhdan.InvalidArgumentError(
                f"open load: expected at least 0 and below 1, got {self.open_load:g}"
            )
        if not 1 <= self.rounds <= 1000 or not 0 <= self.warm_up_rounds <= 100:
            raise binhdan.InvalidArgumentError(
                "expected 1 to 1000 rounds and 0 to 100 warm-up rounds, "
                f"got {self.rounds} and {self.warm_up_rounds}"
            )
        if self.budget_seconds is not None and self.budget_seconds <= 0:
            raise binhdan.InvalidArgumentError(
                f"time budget: expected more than 0 s, got {self.budget_seconds:g} s"
            )


def all_cases(settings: Settings, with_prefix: Iterable[str]) -> list[Case]:
    """All cases, the most important first: one user, the largest number of users, open arrivals, the other
    numbers of users; cold before warm. `with_prefix`: workloads in which text precedes the question; only
    these have warm cases."""
    known = frozenset(with_prefix)
    users = sorted(set(settings.users))
    order = [*users[:1], *users[:0:-1]]
    arrivals = [Arrival(kind="closed", users=count) for count in order]
    if settings.open_load:
        arrivals.insert(min(2, len(arrivals)), Arrival(kind="open"))
    return [
        Case(workload, arrival, prefix)
        for arrival in arrivals
        for prefix in sorted(set(settings.prefixes))
        for workload in settings.workloads
        if prefix == "cold" or workload in known
    ]


def fitting(
    cases: Sequence[Case], seconds: Sequence[float], rounds: int, budget: float | None
) -> tuple[list[Case], list[Case]]:
    """Splits `cases` into those that fit into `budget` seconds and the others. A trial of case i takes
    `seconds[i]`. The first arrival's cases are always measured: a run without them has no baseline."""
    if budget is None:
        return list(cases), []
    chosen, left, spent = [], [], 0.0
    for case, cost in zip(cases, seconds, strict=True):
        required = case.arrival == cases[0].arrival and case.prefix == cases[0].prefix
        if required or spent + cost * rounds <= budget:
            chosen.append(case)
            spent += cost * rounds
        else:
            left.append(case)
    return chosen, left
