"""Two engines on one machine, in turns: `aa`, `ab` and `gate`.

Both run at the same time as processes of their own, but only one works: A, B, then B, A, and so on. What
disturbs the machine for longer than a visit disturbs both, and falls out of their ratio.

An engine is a build of ours (a Python that has binhdan), `llama-cpp-python` as this Python has it, or the URL
of a server with OpenAI's API. All are asked the same texts for answers of the same length.
"""

from __future__ import annotations

import json
import math
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
from binhdan.bench.suite.cases import Settings, Spot, spots
from binhdan.bench.suite.disturbance import Watch
from binhdan.bench.suite.quality import Agreement, Answered, agreement
from binhdan.bench.suite.result import Arrival, Finding, Round

# An A/A comparison that is not so sure that both are equal says that the machine is disturbed.
MOST_HALF_WIDTH = 0.03

Metric = Literal["end_to_end_s", "first_token_s"]
LLAMA_CPP_PYTHON = "llama-cpp-python"
METRICS: dict[Metric, str] = {"end_to_end_s": "answer", "first_token_s": "first token"}


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Side(_Record):
    """Who was measured."""

    source: str  # as it was named: a Python, llama-cpp-python or a URL
    engine: str
    engine_sha256: str | None = None
    commit: str | None = None
    model: str
    model_sha256: str | None = None  # None: the server keeps it to itself


class PairedCell(_Record):
    """Seconds: the median of each round, of A and of B; round i of both was made at the same time."""

    workload: str
    users: int
    prefix: str
    a: dict[Metric, tuple[float, ...]]
    b: dict[Metric, tuple[float, ...]]

    @property
    def key(self) -> str:
        return f"{self.workload}, {Arrival(kind='closed', users=self.users).label}, {self.prefix}"


class Pairs(_Record):
    """What two engines gave. Ratios are times of B over times of A: above 1, B is slower."""

    a: Side
    b: Side
    rounds: int
    cells: tuple[PairedCell, ...]
    findings: tuple[Finding, ...] = ()  # what disturbed the machine meanwhile
    agreement: Agreement | None = None  # None: not asked for

    def ratio(self, metric: Metric = "end_to_end_s") -> Estimate:
        """Over all cells, with its interval of 95 %."""
        return statistics.ratio(self._means("b", metric), self._means("a", metric), paired=True)

    def of_cell(self, cell: PairedCell, metric: Metric = "end_to_end_s") -> Estimate:
        return statistics.ratio(cell.b[metric], cell.a[metric], paired=True)

    def _means(self, side: Literal["a", "b"], metric: Metric) -> list[float]:
        """For each round the geometric mean over the cells."""
        columns = [getattr(cell, side)[metric] for cell in self.cells]
        rounds = zip(*columns, strict=True)
        return [math.exp(math.fsum(math.log(max(x, 1e-9)) for x in row) / len(row)) for row in rounds]


def verdict(pairs: Pairs) -> list[Finding]:
    """Of an A/A comparison: why the machine is disturbed; empty for a machine to measure on."""
    ratio, found = pairs.ratio(), list(pairs.findings)
    if not ratio.contains(1.0):
        text = (
            f"the same build against itself: {ratio.value:.3f} ({ratio.low:.3f} to {ratio.high:.3f}), not 1"
        )
        found.append(Finding(kind="noise", amount=abs(ratio.value - 1), text=text))
    if (half := (ratio.high - ratio.low) / 2) > MOST_HALF_WIDTH:
        text = f"the interval of A/A is ± {half:.1%}, more than {MOST_HALF_WIDTH:.0%}"
        found.append(Finding(kind="noise", amount=half, text=text))
    return found


def regressions(pairs: Pairs) -> list[str]:
    """Cells in which the best round of B is worse than the worst of A: no noise does that often."""
    return [
        f"{cell.key}: {name} {min(cell.b[metric]) * 1e3:,.1f} ms at best, "
        f"{max(cell.a[metric]) * 1e3:,.1f} ms at worst before"
        for cell in pairs.cells
        for metric, name in METRICS.items()
        if min(cell.b[metric]) > max(cell.a[metric])
    ]


@dataclass(frozen=True, kw_only=True)
class Job:
    """What both engines do."""

    model: str | None
    threads: int | None
    isa: str | None
    settings: Settings
    answers: int = 0  # greedy ones of each kind, by which the engines' quality is compared


def measure(
    a: str,
    b: str,
    job: Job,
    progress: Callable[[int], Callable[[int, str], None]] = lambda total: lambda turn, name: None,
) -> Pairs:
    """Raises BinhdanError with the last word of an engine that fails."""
    with ExitStack() as stack:
        builds = [stack.enter_context(Build(source, job)) for source in (a, b)]
        wanted = spots(job.settings, builds[0].with_prefix)
        if not wanted:
            raise binhdan.InvalidArgumentError("nothing to measure: no workload of these has a known prefix")
        for build in builds:
            for _ in range(job.settings.warm_up_rounds):
                for spot in wanted:
                    build.visit(spot, -1)
        seen: dict[Spot, list[list[Round]]] = {spot: [[], []] for spot in wanted}
        step = progress(job.settings.rounds * len(wanted))
        watch = Watch()
        for turn in range(job.settings.rounds):
            for place, spot in enumerate(wanted):
                step(turn, f"{spot.workload}, {spot.arrival.label}, {spot.prefix}")
                order = (0, 1) if (turn + place) % 2 == 0 else (1, 0)
                for side in order:
                    seen[spot][side].append(builds[side].visit(spot, turn))
            watch.look()
        cells = [
            PairedCell(
                workload=spot.workload,
                users=spot.arrival.users or 1,
                prefix=spot.prefix,
                a=_medians(rounds[0]),
                b=_medians(rounds[1]),
            )
            for spot, rounds in seen.items()
        ]
        answers = [build.answers(job.answers) for build in builds] if job.answers else None
        return Pairs(
            a=builds[0].side,
            b=builds[1].side,
            rounds=job.settings.rounds,
            cells=tuple(cells),
            findings=watch.report(others_count=False).findings,
            agreement=agreement(*answers) if answers else None,
        )


def _medians(rounds: Sequence[Round]) -> dict[Metric, tuple[float, ...]]:
    return {metric: tuple(median(getattr(one, metric)) for one in rounds) for metric in METRICS}


class Build:
    """A process that asks one engine. Raises BinhdanError."""

    def __init__(self, source: str, job: Job) -> None:
        self._source, self._job = source, job

    def __enter__(self) -> Build:
        settings = self._job.settings
        work = {
            "model": self._job.model,
            "threads": self._job.threads,
            "isa": self._job.isa,
            "sequences": max(*settings.users, 8),
            "workloads": settings.workloads,
            "seed": settings.seed,
        }
        ours = self._source != LLAMA_CPP_PYTHON and "://" not in self._source
        work["peer"] = None if ours else self._source
        python = self._source if ours else sys.executable
        command = [python, "-m", "binhdan.bench.suite.child_build", json.dumps(work)]
        self._log = tempfile.TemporaryFile()  # a pipe that nobody reads would stop a process that says much
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True
            )
        except OSError as error:
            self._log.close()
            raise binhdan.BinhdanError(f"cannot start {self._source}: {error.strerror}") from error
        try:
            who = self._read()
            self.with_prefix: list[str] = who.pop("with_prefix")
            self.side = Side(source=self._source, **who)
        except BaseException:
            self._end()
            raise
        return self

    def visit(self, spot: Spot, turn: int) -> Round:
        asked = {"workload": spot.workload, "users": spot.arrival.users, "prefix": spot.prefix, "turn": turn}
        return Round.model_validate(self._ask(asked))

    def answers(self, each: int) -> list[Answered]:
        """Greedy answers to the first `each` questions of the kinds that agreement() knows."""
        return [Answered.model_validate(one) for one in self._ask({"answers": each})]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _ask(self, asked: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        with suppress(OSError):  # it has ended: what it said is read below
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._log.seek(0)
            words = self._log.read().decode("utf-8", "replace").strip().splitlines()
            last = words[-1] if words else f"exit code {self._process.returncode}"
            raise binhdan.BinhdanError(f"{self._source}: {last}")
        return json.loads(line)

    def _end(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._log.close()
