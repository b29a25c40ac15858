"""The rounds: each visits every cell once, in another order each time, so that what disturbs the machine for
a while disturbs no cell alone.
"""

from __future__ import annotations

import gc
import itertools
import math
import random
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from binhdan.bench import statistics
from binhdan.bench.disturbance import Watch
from binhdan.bench.energy import Energy, EnergyWatch
from binhdan.bench.result import Arrival, Cell, LeftOut, Round
from binhdan.bench.suite.drive import visit
from binhdan.bench.suite.plan import Settings, Spot, fitting, spots
from binhdan.bench.suite.summary import CostOf, cell_of, round_of
from binhdan.bench.suite.targets import Question, Sample, Target
from binhdan.bench.workloads import TextWorkload, Turn
from binhdan.runtime.chat import Message

import binhdan

_HELLO: Message = {"role": "user", "content": "Xin chào"}
_NUMBERS = 10**8  # of eight digits

Progress = Callable[[int, str], None]


@dataclass(frozen=True, slots=True)
class Asked:
    """A turn, and how many tokens its answer has for this target."""

    turn: Turn
    tokens: int

    def question(self, number: int, *, cold: bool) -> Question:
        messages = self.turn.cold(number) if cold else self.turn.warm(number)
        return Question(messages, self.tokens, len(self.turn.answer))

    @property
    def prime(self) -> Question:
        """Makes the prefix known."""
        return Question([*self.turn.messages[:-1], _HELLO], 1, 0)


@dataclass(slots=True)
class Rounds:
    """What the rounds gave."""

    cells: list[Cell] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    noise: float | None = None
    answers: int = 0  # also those that did not count
    cpu_seconds: float = 0.0  # of this process, in the rounds that count
    measuring_seconds: float = 0.0  # of these, for measuring


class Measurement:
    """One target under the workloads. `watch` and `energy` look at the machine at the borders of visits."""

    def __init__(
        self,
        target: Target,
        workloads: Mapping[str, TextWorkload],
        settings: Settings,
        *,
        watch: Watch | None = None,
        energy: EnergyWatch | None = None,
        cost_of: CostOf | None = None,
        progress: Callable[[int], Progress] = lambda total: lambda turn, name: None,
    ) -> None:
        self.target, self.workloads, self.settings = target, workloads, settings
        self._watch, self._energy, self._cost_of, self._progress = watch, energy, cost_of, progress
        self._asked: dict[str, list[Asked]] = {}
        self._numbers = itertools.count(secrets.randbelow(_NUMBERS))
        self._rates: dict[Spot, float] = {}
        self._reached: dict[Spot, float] = {}  # answers a second, while warming up
        self._result = Rounds()

    async def run(self) -> Rounds:
        """Raises BinhdanError when a workload gets no answer at all."""
        begun = time.monotonic()
        await self._prepare()
        wanted = spots(self.settings, [name for name, asked in self._asked.items() if _has_prefix(asked)])
        chosen, left = await self._choose(wanted, begun)
        rounds: dict[Spot, list[Round]] = {spot: [] for spot in chosen}
        self._result.left_out += [_left_out(spot, "no time") for spot in left]
        if self._watch:
            self._watch.look()
        gc.collect()
        gc.freeze()
        cpu = time.process_time()
        step = self._progress(self.settings.rounds * len(chosen))
        for turn in range(self.settings.rounds):
            for spot in random.Random(f"{self.settings.seed} {turn}").sample(chosen, len(chosen)):
                step(turn, f"{spot.workload}, {spot.arrival.label}, {spot.prefix}")
                samples, seconds, energy = await self._visit(spot, turn)
                rounds[spot].append(round_of(samples, seconds, energy))
            if self._watch:
                self._watch.look()
        self._result.cpu_seconds = time.process_time() - cpu
        gc.unfreeze()
        self._result.cells = [
            cell_of(
                spot.workload,
                self._arrival(spot),
                spot.prefix,
                rounds[spot],
                self._cost_of,
                self.settings.seed,
            )
            for spot in chosen
        ]
        self._result.noise = noise(self._result.cells)
        answered = sum(len(one.end_to_end_s) for cell in self._result.cells for one in cell.rounds)
        self._result.measuring_seconds = answered * cost_of_a_sample() + (
            self._watch.cost if self._watch else 0
        )
        return self._result

    # ---- choosing ------------------------------------------------------------------------------------------

    async def _prepare(self) -> None:
        for name, workload in self.workloads.items():
            turns = workload.turns
            # Shuffled once: the first n are of all kinds, and the same n in every round.
            random.Random(f"{self.settings.seed} {name}").shuffle(turns)
            self._asked[name] = [Asked(turn, max(2, await self.target.count(turn.answer))) for turn in turns]

    async def _choose(self, wanted: Sequence[Spot], begun: float) -> tuple[list[Spot], list[Spot]]:
        """Warms up, and finds which cells there is time for."""
        settings = self.settings
        alone = {name: await self._alone(asked) for name, asked in self._asked.items()}
        costs = [spot.questions * alone[spot.workload] for spot in wanted]
        for spot in wanted:
            self._rates[spot] = settings.open_load / alone[spot.workload]

        def fit(costs: Sequence[float], more: int) -> tuple[list[Spot], list[Spot]]:
            budget = settings.budget_seconds
            remaining = None if budget is None else budget - (time.monotonic() - begun)
            return fitting(wanted, costs, settings.rounds + more, remaining)

        chosen, left = fit(costs, settings.warm_up_rounds)
        taken: dict[Spot, float] = {}
        for _ in range(settings.warm_up_rounds):
            taken |= await self._warm_up([spot for spot in chosen if spot.arrival.kind == "closed"])
            self._set_rates(wanted)
            taken |= await self._warm_up([spot for spot in chosen if spot.arrival.kind == "open"])
        if not taken or not left:
            return chosen, left
        # Several users together are answered sooner than one after the other: more may fit than it seemed.
        known = dict(zip(wanted, costs, strict=True))
        many = [taken[spot] / known[spot] for spot in taken if spot.arrival != wanted[0].arrival]
        scale = median(many) if many else 1.0
        costs = [taken.get(spot, known[spot] * scale) for spot in wanted]
        again, left = fit(costs, 0)
        await self._warm_up([spot for spot in again if spot not in taken])
        return again, left

    async def _alone(self, asked: Sequence[Asked]) -> float:
        """Seconds of a cold answer to one user, after one that does not count."""
        seconds = 0.0
        for one in (asked[0], asked[0]):
            samples, seconds = await visit(self.target, [one.question(self._number(), cold=True)], _ONE)
            self._result.answers += 1
            if samples[0].error is not None:
                raise binhdan.BinhdanError(f"{one.turn.item} gets no answer: {samples[0].error}")
        return max(seconds, 1e-4)

    async def _warm_up(self, chosen: Sequence[Spot]) -> dict[Spot, float]:
        taken = {}
        for spot in chosen:
            start = time.monotonic()
            _, seconds, _ = await self._visit(spot, -1)
            taken[spot] = time.monotonic() - start  # with making prefixes known
            self._reached[spot] = spot.questions / seconds
        return taken

    def _set_rates(self, wanted: Sequence[Spot]) -> None:
        """Open arrivals come at a share of what the closed loop reached at its best."""
        for spot in wanted:
            reached = [
                rate
                for other, rate in self._reached.items()
                if (other.workload, other.prefix) == (spot.workload, spot.prefix)
                and other.arrival.kind == "closed"
            ]
            if reached:
                self._rates[spot] = self.settings.open_load * max(reached)

    # ---- visiting ------------------------------------------------------------------------------------------

    async def _visit(self, spot: Spot, turn: int) -> tuple[list[Sample], float, Energy | None]:
        asked = self._asked[spot.workload]
        chosen = [asked[place % len(asked)] for place in range(spot.questions)]
        cold = spot.prefix == "cold"
        if not cold:
            await self._make_known(chosen)
        questions = [one.question(self._number(), cold=cold) for one in chosen]
        if self._energy:
            self._energy.lap()
        seed = 1000 * self.settings.seed + turn + 1
        samples, seconds = await visit(self.target, questions, self._arrival(spot), seed=seed)
        self._result.answers += len(samples)
        return samples, seconds, self._energy.lap() if self._energy else None

    async def _make_known(self, chosen: Sequence[Asked]) -> None:
        primes = {str(one.prime.messages): one.prime for one in chosen}
        await visit(self.target, list(primes.values()), _ONE)

    def _arrival(self, spot: Spot) -> Arrival:
        if spot.arrival.kind == "closed":
            return spot.arrival
        return spot.arrival.model_copy(update={"rate": self._rates[spot]})

    def _number(self) -> int:
        return next(self._numbers) % _NUMBERS


_ONE = Arrival(kind="closed", users=1)


def noise(cells: Sequence[Cell]) -> float | None:
    """Half-width of the interval of the geometric mean time of a round, as a share; None for one round."""
    rounds = [overall(cell) for cell in cells]
    known = [logs for logs in rounds if logs]
    if not known or len(known[0]) < 2:
        return None
    estimate = statistics.mean([sum(logs) / len(logs) for logs in zip(*known, strict=True)])
    return (estimate.high - estimate.low) / 2


def overall(cell: Cell) -> list[float]:
    """For each round the logarithm of the median time of an answer; none when a round has no answer."""
    if not all(one.end_to_end_s for one in cell.rounds):
        return []
    return [math.log(max(median(one.end_to_end_s), 1e-9)) for one in cell.rounds]


def cost_of_a_sample(repeats: int = 2000) -> float:
    """Processor seconds that measuring one answer takes: three looks at the clock and one Sample."""
    start = time.thread_time()
    for _ in range(repeats):
        now = time.perf_counter(), time.perf_counter(), time.perf_counter()
        Sample(due=now[0], first=now[1], ended=now[2], tokens=1)
    return (time.thread_time() - start) / repeats


def _has_prefix(asked: Sequence[Asked]) -> bool:
    return all(one.turn.has_prefix for one in asked)


def _left_out(spot: Spot, reason: str) -> LeftOut:
    return LeftOut(workload=spot.workload, arrival=spot.arrival, prefix=spot.prefix, reason=reason)
