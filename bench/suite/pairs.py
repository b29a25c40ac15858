"""Two engines on one machine, in turns: the measurement behind `aa`, `ab` and `gate`.

Both engines run as processes at the same time, but only one computes: A, B, then B, A, and so on. A
disturbance that lasts longer than one trial affects both, and cancels out in their ratio.

An engine is a build of binhdan (a Python interpreter that has it), `llama-cpp-python` of this interpreter, or
the URL of a server with OpenAI's API. All get the same texts and produce answers of the same length.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from statistics import median
from types import TracebackType
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

import binhdan
from binhdan.bench.common import statistics
from binhdan.bench.common.statistics import Estimate
from binhdan.bench.suite.cases import Case, Settings, all_cases
from binhdan.bench.suite.disturbance import Monitor
from binhdan.bench.suite.engines import LLAMA_CPP_PYTHON
from binhdan.bench.suite.measure import NO_PREFIX
from binhdan.bench.suite.quality import Agreement, GreedyAnswer, agreement
from binhdan.bench.suite.result import Arrival, Finding, Prefix, Trial, case_key

# An A/A comparison with a wider interval shows that the machine is disturbed.
MAX_HALF_WIDTH = 0.03

Metric = Literal["end_to_end_s", "ttft_s"]
METRICS: dict[Metric, str] = {"end_to_end_s": "answer", "ttft_s": "TTFT"}


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Side(_Record):
    """One of the two engines."""

    source: str  # as named by the user: a Python interpreter, llama-cpp-python or a URL
    engine: str
    engine_sha256: str | None = None
    commit: str | None = None
    model: str
    model_sha256: str | None = None  # None: unknown for servers


class PairedCase(_Record):
    """Median seconds of each trial of A and of B. Trial i of both ran directly after each other."""

    workload: str
    users: int
    prefix: Prefix
    a: dict[Metric, tuple[float, ...]]
    b: dict[Metric, tuple[float, ...]]

    @property
    def key(self) -> str:
        return case_key(self.workload, Arrival(kind="closed", users=self.users), self.prefix)


class Pairs(_Record):
    """Result of a comparison. Ratios are times of B over times of A: above 1, B is slower."""

    a: Side
    b: Side
    rounds: int
    cases: tuple[PairedCase, ...]
    findings: tuple[Finding, ...] = ()  # disturbances during the comparison
    agreement: Agreement | None = None  # None: not requested

    def ratio(self, metric: Metric = "end_to_end_s") -> Estimate:
        """Over all cases, with the 95 % interval."""
        return statistics.ratio(self._means("b", metric), self._means("a", metric), paired=True)

    def ratio_of(self, case: PairedCase, metric: Metric = "end_to_end_s") -> Estimate:
        return statistics.ratio(case.b[metric], case.a[metric], paired=True)

    def _means(self, side: Literal["a", "b"], metric: Metric) -> list[float]:
        """For each round the geometric mean over the cases."""
        columns = [getattr(case, side)[metric] for case in self.cases]
        rounds = zip(*columns, strict=True)
        return [statistics.geometric_mean([max(x, 1e-9) for x in row]) for row in rounds]


def verdict(pairs: Pairs) -> list[Finding]:
    """Reasons why an A/A comparison shows a disturbed machine; empty for a quiet machine."""
    ratio, found = pairs.ratio(), list(pairs.findings)
    if not ratio.contains(1.0):
        text = (
            f"the same build against itself: {ratio.value:.3f} ({ratio.low:.3f} to {ratio.high:.3f}), not 1"
        )
        found.append(Finding(kind="noise", amount=abs(ratio.value - 1), text=text))
    if (half := (ratio.high - ratio.low) / 2) > MAX_HALF_WIDTH:
        text = f"the interval of A/A is ± {half:.1%}, more than {MAX_HALF_WIDTH:.0%}"
        found.append(Finding(kind="noise", amount=half, text=text))
    return found


def regressions(pairs: Pairs) -> list[str]:
    """Cases in which the best trial of B is slower than the worst of A. Noise rarely causes that."""
    return [
        f"{case.key}: {name} {min(case.b[metric]) * 1e3:,.1f} ms at best, "
        f"{max(case.a[metric]) * 1e3:,.1f} ms at worst before"
        for case in pairs.cases
        for metric, name in METRICS.items()
        if min(case.b[metric]) > max(case.a[metric])
    ]


@dataclass(frozen=True, kw_only=True)
class Job:
    """The work of both engines."""

    model: str | None
    threads: int | None
    isa: str | None
    settings: Settings
    answers: int = 0  # greedy answers of each kind, to compare the engines' quality


def measure(
    a: str,
    b: str,
    job: Job,
    progress: Callable[[int], Callable[[int, str], None]] = lambda total: lambda turn, name: None,
) -> Pairs:
    """Raises BinhdanError with the last error line of an engine that fails."""
    with ExitStack() as stack:
        engines = [stack.enter_context(EngineProcess(source, job)) for source in (a, b)]
        cases = all_cases(job.settings, engines[0].with_prefix)
        if not cases:
            raise binhdan.InvalidArgumentError(NO_PREFIX)
        for engine in engines:
            for _ in range(job.settings.warm_up_rounds):
                for case in cases:
                    engine.run_trial(case, -1)
        trials: dict[Case, list[list[Trial]]] = {case: [[], []] for case in cases}
        step = progress(job.settings.rounds * len(cases))
        monitor = Monitor()
        for round_ in range(job.settings.rounds):
            for index, case in enumerate(cases):
                step(round_, case.key)
                order = (0, 1) if (round_ + index) % 2 == 0 else (1, 0)
                for side in order:
                    trials[case][side].append(engines[side].run_trial(case, round_))
            monitor.sample()
        paired = [
            PairedCase(
                workload=case.workload,
                users=case.arrival.users or 1,
                prefix=case.prefix,
                a=_medians(both[0]),
                b=_medians(both[1]),
            )
            for case, both in trials.items()
        ]
        answers = [engine.answers(job.answers) for engine in engines] if job.answers else None
        return Pairs(
            a=engines[0].side,
            b=engines[1].side,
            rounds=job.settings.rounds,
            cases=tuple(paired),
            findings=monitor.report(count_others=False).findings,
            agreement=agreement(*answers) if answers else None,
        )


def _medians(trials: Sequence[Trial]) -> dict[Metric, tuple[float, ...]]:
    return {metric: tuple(median(getattr(one, metric)) for one in trials) for metric in METRICS}


class EngineProcess:
    """A child process (pairs_child.py) that runs one engine. Raises BinhdanError."""

    def __init__(self, source: str, job: Job) -> None:
        self._source, self._job = source, job

    def __enter__(self) -> EngineProcess:
        settings = self._job.settings
        is_build = self._source != LLAMA_CPP_PYTHON and "://" not in self._source
        job = {
            "model": self._job.model,
            "threads": self._job.threads,
            "isa": self._job.isa,
            "sequences": max(*settings.users, 8),
            "workloads": settings.workloads,
            "seed": settings.seed,
            "peer": None if is_build else self._source,
        }
        python = self._source if is_build else sys.executable
        command = [python, "-m", "binhdan.bench.suite.pairs_child", json.dumps(job)]
        self._log = tempfile.TemporaryFile()  # not a pipe: a full pipe would block the child
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True
            )
        except OSError as error:
            self._log.close()
            raise binhdan.BinhdanError(f"cannot start {self._source}: {error.strerror}") from error
        try:
            facts = self._read()
            self.with_prefix: list[str] = facts.pop("with_prefix")
            self.side = Side(source=self._source, **facts)
        except BaseException:
            self._end()
            raise
        return self

    def run_trial(self, case: Case, round_: int) -> Trial:
        request = {
            "workload": case.workload,
            "users": case.arrival.users,
            "prefix": case.prefix,
            "round": round_,
        }
        return Trial.model_validate(self._send(request))

    def answers(self, each: int) -> list[GreedyAnswer]:
        """Greedy answers to the first `each` questions of both kinds that agreement() compares."""
        return [GreedyAnswer.model_validate(one) for one in self._send({"answers": each})]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _send(self, request: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        with suppress(OSError):  # the child has ended: _read raises its error
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._log.seek(0)
            lines = self._log.read().decode("utf-8", "replace").strip().splitlines()
            last = lines[-1] if lines else f"exit code {self._process.returncode}"
            raise binhdan.BinhdanError(f"{self._source}: {last}")
        return json.loads(line)

    def _end(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._log.close()
