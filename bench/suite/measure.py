"""Measures all cases on one engine, in rounds.

Each round holds one trial of every case, in a new random order: a disturbance that lasts a minute affects
many cases a little instead of one case much.
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
from binhdan.bench.suite.cases import Case, Settings, all_cases, fitting
from binhdan.bench.suite.disturbance import Monitor
from binhdan.bench.suite.engines import Engine, TimedAnswer
from binhdan.bench.suite.result import Arrival, CaseResult, LeftOut, Trial
from binhdan.bench.suite.summary import CostOf, case_result, trial_of
from binhdan.bench.suite.trial import TrialRunner
from binhdan.bench.suite.workloads import TextWorkload
from binhdan.runtime.energy import Energy, EnergyWatch, MeterError

Progress = Callable[[int, str], None]
NO_PREFIX = "no case to measure: none of the workloads has a prefix; add prefix cold, or another workload"


@dataclass(slots=True)
class Measured:
    """Result of all rounds."""

    cases: list[CaseResult] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    noise: float | None = None
    cpu_seconds: float = 0.0  # of this process, in the counted rounds
    measuring_seconds: float = 0.0  # part of cpu_seconds that the measuring itself took
    meter_failure: str | None = None  # later trials have no energy


class Measurement:
    """One engine under the workloads. `monitor` and `energy` are read only between trials and rounds."""

    def __init__(
        self,
        engine: Engine,
        workloads: Mapping[str, TextWorkload],
        settings: Settings,
        *,
        monitor: Monitor | None = None,
        energy: EnergyWatch | None = None,
        cost_of: CostOf | None = None,
        progress: Callable[[int], Progress] = lambda total: lambda turn, name: None,
    ) -> None:
        self.settings = settings
        self._runner = TrialRunner(engine, workloads, settings.seed)
        self._monitor, self._energy, self._cost_of, self._progress = monitor, energy, cost_of, progress
        self._rates: dict[Case, float] = {}  # of open arrivals, requests per second
        self._reached: dict[Case, float] = {}  # answers per second in the warm-up
        self._measured = Measured()

    async def run(self) -> Measured:
        """Raises BinhdanError when a workload gets no answer."""
        begun = time.monotonic()
        await self._runner.prepare()
        cases = all_cases(self.settings, self._runner.with_prefix())
        if not cases:
            raise binhdan.InvalidArgumentError(NO_PREFIX)
        chosen, left = await self._choose(cases, begun)
        trials: dict[Case, list[Trial]] = {case: [] for case in chosen}
        self._measured.left_out += [_left_out(case, "no time") for case in left]
        if self._monitor:
            self._monitor.sample()
        gc.collect()
        gc.freeze()
        cpu, sampled = time.process_time(), self._monitor.cost if self._monitor else 0.0
        step = self._progress(self.settings.rounds * len(chosen))
        for round_ in range(self.settings.rounds):
            for case in random.Random(f"{self.settings.seed} {round_}").sample(chosen, len(chosen)):
                step(round_, case.key)
                answers, seconds, energy = await self._trial(case, round_)
                trials[case].append(trial_of(answers, seconds, energy))
            if self._monitor:
                self._monitor.sample()
        self._measured.cpu_seconds = time.process_time() - cpu
        gc.unfreeze()
        self._measured.cases = [
            case_result(
                case.workload,
                self._arrival(case),
                case.prefix,
                trials[case],
                self._cost_of,
                self.settings.seed,
            )
            for case in chosen
        ]
        self._measured.noise = noise(self._measured.cases)
        answered = sum(len(trial.end_to_end_s) for case in self._measured.cases for trial in case.trials)
        self._measured.measuring_seconds = answered * timing_cost()
        if self._monitor:
            self._measured.measuring_seconds += self._monitor.cost - sampled
        return self._measured

    # ---- choosing cases ------------------------------------------------------------------------------------

    async def _choose(self, cases: Sequence[Case], begun: float) -> tuple[list[Case], list[Case]]:
        """Warms up, estimates the time of each case and selects those that fit into the budget."""
        settings = self.settings
        alone = {name: await self._single_answer_seconds(name) for name in self._runner.turns}
        costs = [case.questions * alone[case.workload] for case in cases]
        for case in cases:
            self._rates[case] = settings.open_load / alone[case.workload]

        def fit(costs: Sequence[float], more_rounds: int) -> tuple[list[Case], list[Case]]:
            budget = settings.budget_seconds
            remaining = None if budget is None else budget - (time.monotonic() - begun)
            return fitting(cases, costs, settings.rounds + more_rounds, remaining)

        chosen, left = fit(costs, settings.warm_up_rounds)
        taken: dict[Case, float] = {}
        for _ in range(settings.warm_up_rounds):
            taken |= await self._warm_up([case for case in chosen if case.arrival.kind == "closed"])
            self._set_rates(cases)
            taken |= await self._warm_up([case for case in chosen if case.arrival.kind == "open"])
        if not taken or not left:
            return chosen, left
        # Batching answers several users faster than one after the other: more cases may fit than estimated.
        estimated = dict(zip(cases, costs, strict=True))
        batched = [taken[case] / estimated[case] for case in taken if case.arrival != cases[0].arrival]
        scale = median(batched) if batched else 1.0
        costs = [taken.get(case, estimated[case] * scale) for case in cases]
        chosen, left = fit(costs, 0)
        await self._warm_up([case for case in chosen if case not in taken])
        return chosen, left

    async def _single_answer_seconds(self, workload: str) -> float:
        """Seconds of the second of two cold answers for one user."""
        seconds = 0.0
        for _ in range(2):
            answer, seconds = await self._runner.single_answer(workload)
            if answer.error is not None:
                raise binhdan.BinhdanError(f"workload {workload} gets no answer: {answer.error}")
        return max(seconds, 1e-4)

    async def _warm_up(self, cases: Sequence[Case]) -> dict[Case, float]:
        """Runs one uncounted trial of each case. Returns their seconds."""
        taken = {}
        for case in cases:
            start = time.monotonic()
            _, seconds, _ = await self._trial(case, -1)
            taken[case] = time.monotonic() - start  # includes putting prefixes into the cache
            self._reached[case] = case.questions / seconds
        return taken

    def _set_rates(self, cases: Sequence[Case]) -> None:
        """Sets open rates to a share of the highest rate that closed arrivals reached."""
        for case in cases:
            reached = [
                rate
                for other, rate in self._reached.items()
                if (other.workload, other.prefix) == (case.workload, case.prefix)
                and other.arrival.kind == "closed"
            ]
            if reached:
                self._rates[case] = self.settings.open_load * max(reached)

    # ---- trials --------------------------------------------------------------------------------------------

    async def _trial(self, case: Case, round_: int) -> tuple[list[TimedAnswer], float, Energy | None]:
        questions = await self._runner.questions_of(case)
        self._lap()
        answers, seconds = await self._runner.run(questions, self._arrival(case), round_)
        return answers, seconds, self._lap()

    def _lap(self) -> Energy | None:
        """Energy since the last call. A meter that fails ends the energy figures, not the run."""
        try:
            return self._energy.lap() if self._energy else None
        except MeterError as error:
            self._energy, self._measured.meter_failure = None, str(error)
            return None

    def _arrival(self, case: Case) -> Arrival:
        if case.arrival.kind == "closed":
            return case.arrival
        return case.arrival.model_copy(update={"rate": self._rates[case]})


def noise(cases: Sequence[CaseResult]) -> float | None:
    """Half-width of the interval of a round's geometric mean time, as a share; None for one round."""
    logs_of_cases = [logs for case in cases if (logs := log_times(case))]
    if not logs_of_cases or len(logs_of_cases[0]) < 2:
        return None
    rounds = zip(*logs_of_cases, strict=True)
    estimate = statistics.mean([sum(logs) / len(logs) for logs in rounds])
    return (estimate.high - estimate.low) / 2


def log_times(case: CaseResult) -> list[float]:
    """Logarithm of the median answer time of each trial; empty when a trial has no complete answer."""
    if not all(trial.end_to_end_s for trial in case.trials):
        return []
    return [math.log(max(median(trial.end_to_end_s), 1e-9)) for trial in case.trials]


def timing_cost(repeats: int = 2000) -> float:
    """CPU seconds that timing one answer takes: three clock reads and one TimedAnswer."""
    start = time.thread_time()
    for _ in range(repeats):
        now = time.perf_counter(), time.perf_counter(), time.perf_counter()
        TimedAnswer(due=now[0], first=now[1], ended=now[2], tokens=1)
    return (time.thread_time() - start) / repeats


def _left_out(case: Case, reason: str) -> LeftOut:
    return LeftOut(workload=case.workload, arrival=case.arrival, prefix=case.prefix, reason=reason)
