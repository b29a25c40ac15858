"""The rounds: each visits every cell once, in another order each time, so that what disturbs the machine for
a while disturbs no cell alone.
"""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

import binhdan
from binhdan.bench.common import statistics
from binhdan.bench.suite.cases import Settings, Spot, fitting, spots
from binhdan.bench.suite.disturbance import Watch
from binhdan.bench.suite.result import Arrival, Cell, LeftOut, Round
from binhdan.bench.suite.summary import CostOf, cell_of, round_of
from binhdan.bench.suite.targets import Sample, Target
from binhdan.bench.suite.visitor import Visitor
from binhdan.bench.suite.workloads import TextWorkload
from binhdan.runtime.energy import Energy, EnergyWatch, MeterError

Progress = Callable[[int, str], None]


@dataclass(slots=True)
class Rounds:
    """What the rounds gave."""

    cells: list[Cell] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    noise: float | None = None
    cpu_seconds: float = 0.0  # of this process, in the rounds that count
    measuring_seconds: float = 0.0  # of these, for measuring
    meter_failure: str | None = None  # from then on nothing was metered


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
        self.settings = settings
        self._visitor = Visitor(target, workloads, settings.seed)
        self._watch, self._energy, self._cost_of, self._progress = watch, energy, cost_of, progress
        self._rates: dict[Spot, float] = {}
        self._reached: dict[Spot, float] = {}  # answers a second, while warming up
        self._result = Rounds()

    async def run(self) -> Rounds:
        """Raises BinhdanError when a workload gets no answer at all."""
        begun = time.monotonic()
        await self._visitor.prepare()
        wanted = spots(self.settings, self._visitor.with_prefix())
        if not wanted:
            raise binhdan.InvalidArgumentError("nothing to measure: no workload of these has a known prefix")
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

    async def _choose(self, wanted: Sequence[Spot], begun: float) -> tuple[list[Spot], list[Spot]]:
        """Warms up, and finds which cells there is time for."""
        settings = self.settings
        alone = {name: await self._alone(name) for name in self._visitor.asked}
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

    async def _alone(self, workload: str) -> float:
        """Seconds of a cold answer to one user, after one that does not count."""
        seconds = 0.0
        for _ in range(2):
            sample, seconds = await self._visitor.alone(workload)
            if sample.error is not None:
                raise binhdan.BinhdanError(f"workload {workload} gets no answer: {sample.error}")
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
        questions = await self._visitor.ready(spot)
        self._lap()
        samples, seconds = await self._visitor.visit(questions, self._arrival(spot), turn)
        return samples, seconds, self._lap()

    def _lap(self) -> Energy | None:
        """A meter that fails takes no more than the energy with it."""
        try:
            return self._energy.lap() if self._energy else None
        except MeterError as error:
            self._energy, self._result.meter_failure = None, str(error)
            return None

    def _arrival(self, spot: Spot) -> Arrival:
        if spot.arrival.kind == "closed":
            return spot.arrival
        return spot.arrival.model_copy(update={"rate": self._rates[spot]})


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


def _left_out(spot: Spot, reason: str) -> LeftOut:
    return LeftOut(workload=spot.workload, arrival=spot.arrival, prefix=spot.prefix, reason=reason)
