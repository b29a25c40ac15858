"""The measured service of one board: answers per second and latencies at several levels of concurrency.

Between measured levels the speed is interpolated linearly, from 0 answers on. The true curve is concave,
because batching makes the first additional sequences cheapest, so the line is a lower bound. Above the
highest measured level nothing is known: a board runs no more answers than that, and further requests wait.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from statistics import fmean, median
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

import binhdan
from binhdan.bench.common.files import read_whole

MAX_CONCURRENCY = 4096
_MAX_BYTES = 16 << 20
_SUITE_SCHEMA = 2  # bench/suite/result.py
_COMPARISON_SCHEMA = "binhdan.bench.load.compare/2"  # bench/load/compare.py
_OLD_SCHEMAS = (1, "binhdan.bench.serve.compare/1")
_POINTS = 100  # samples that represent a distribution of known percentiles


@dataclass(frozen=True, slots=True)
class Level:
    """One measurement of a board with `concurrency` answers running all the time."""

    concurrency: int
    answers_per_s: float
    seconds: tuple[float, ...]  # latencies of complete answers, ascending


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredService:
    """The measurements of one board. Raises InvalidArgumentError for levels that are impossible."""

    server: str
    model: str  # "": unknown
    machine: str  # "": unknown
    answer_tokens: float | None  # median
    levels: tuple[Level, ...]

    def __post_init__(self) -> None:
        counts = [level.concurrency for level in self.levels]
        if not counts or counts != sorted(set(counts)) or counts[0] < 1 or counts[-1] > MAX_CONCURRENCY:
            raise binhdan.InvalidArgumentError(
                f"expected ascending levels of concurrency, 1 to {MAX_CONCURRENCY:,}, got {counts[:9]}"
            )
        for level in self.levels:
            if not 0 < level.answers_per_s < 1e9 or not level.seconds or not level.seconds[0] > 0:
                raise binhdan.InvalidArgumentError(
                    f"{level.concurrency} concurrent answers: expected a speed and latencies above 0, "
                    f"got {level.answers_per_s:g} answers/s and {level.seconds[:3]} s"
                )

    def speeds(self) -> tuple[float, ...]:
        """Answers per second of the board with 1, 2, ... running, up to the highest level."""
        found: list[float] = []
        count, speed = 0, 0.0
        for level in self.levels:
            slope = (level.answers_per_s - speed) / (level.concurrency - count)
            found += [speed + slope * step for step in range(1, level.concurrency - count)]
            found.append(level.answers_per_s)
            count, speed = level.concurrency, level.answers_per_s
        return tuple(found)

    def per_board(self, boards: int) -> MeasuredService:
        """The share of one board in a measurement of so many equal boards behind one address. It has the
        losses of the cluster: routing, and boards that are not equally busy. Raises InvalidArgumentError for
        a level that `boards` does not divide."""
        for level in self.levels:
            if boards < 1 or level.concurrency % boards:
                raise binhdan.InvalidArgumentError(
                    f"{boards} boards: expected levels that they divide, got {level.concurrency} concurrent "
                    f"answers; measure with --users {boards}, {4 * boards}, {16 * boards}"
                )
        levels = tuple(
            Level(level.concurrency // boards, level.answers_per_s / boards, level.seconds)
            for level in self.levels
        )
        return replace(self, levels=levels)

    def work(self) -> tuple[float, ...]:
        """Samples of the work per answer, with a mean of 1: the latencies at the lowest level, where other
        answers have the least influence."""
        seconds = self.levels[0].seconds
        mean = fmean(seconds)
        return tuple(second / mean for second in seconds)


class _Part(BaseModel):
    """A part of a result file. Fields that a plan does not need are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


_Seconds = Annotated[float, Field(gt=0, le=1e9)]
_Count = Annotated[int, Field(ge=0, le=10**12)]


class _Percentiles(_Part):
    p50: _Seconds
    p95: _Seconds
    p99: _Seconds


class _Arrivals(_Part):
    users: Annotated[int, Field(ge=1, le=MAX_CONCURRENCY)] | None = None  # None: an open loop


class _Load(_Part):
    arrivals: _Arrivals
    seconds: _Seconds
    answers: _Count
    failures: dict[str, _Count]
    end_to_end_s: _Percentiles | None
    answer_tokens: float | None


class _Loads(_Part):
    loads: list[_Load]


class _Machine(_Part):
    processor: str
    cores: int


class _Result(_Part):
    server: str
    loads: list[_Load]


class _Comparison(_Part):
    machine: _Machine
    model: str
    results: list[_Result]


class _Arrival(_Part):
    kind: str
    users: Annotated[int, Field(ge=1, le=MAX_CONCURRENCY)] | None = None


class _Trial(_Part):
    seconds: _Seconds
    end_to_end_s: list[_Seconds]
    failures: _Count
    answer_tokens: _Count


class _Case(_Part):
    workload: str
    arrival: _Arrival
    prefix: str
    trials: Annotated[list[_Trial], Field(min_length=1)]

    @property
    def group(self) -> str:
        return f"{self.workload}, {self.prefix}"


class _RunIdentity(_Part):
    engine: str
    model: str


class _Suite(_Part):
    machine: _Machine
    identity: _RunIdentity
    cases: list[_Case]


def load_service(path: str | Path, pick: str | None = None) -> MeasuredService:
    """Reads a result file: JSON of `binhdan bench`, `bench load run` or `bench load compare`.

    `pick` is a server of a comparison (None: the first), or a workload of a suite's result, such as "short"
    or "short, warm" (None: the one with the most levels). Raises InvalidArgumentError for an invalid result,
    FileReadError, and BadFormatError for a file that is too large.
    """
    data = read_whole(Path(path), _MAX_BYTES)
    try:
        return parse_service(json.loads(data), pick)
    except (ValueError, RecursionError) as error:
        if isinstance(error, binhdan.BinhdanError):
            raise
        raise binhdan.InvalidArgumentError(
            f"{path}: expected a result in JSON, got text that is not valid JSON: {error}"
        ) from error


def parse_service(data: object, pick: str | None = None) -> MeasuredService:
    """As `load_service`, from decoded JSON."""
    if isinstance(data, list):
        return _from_load(data, pick)
    schema = None
    if isinstance(data, dict):
        schema = data.get("schema_version", data.get("schema"))
        if schema == _COMPARISON_SCHEMA:
            return _from_comparison(data, pick)
        if schema == _SUITE_SCHEMA and "cases" in data:
            return _from_suite(data, pick)
    if schema in _OLD_SCHEMAS:
        raise binhdan.InvalidArgumentError(
            f"expected schema {_SUITE_SCHEMA} of 'binhdan bench' or {_COMPARISON_SCHEMA!r}, "
            f"got schema {str(schema)!r} of an older binhdan: measure again"
        )
    raise binhdan.InvalidArgumentError(
        "expected what 'binhdan bench', 'bench load run --json' or 'bench load compare --json' "
        f"prints, got schema {str(schema)[:60]!r}"
    )


def _from_load(data: object, pick: str | None) -> MeasuredService:
    """From a list of loads on one server, whose name the list does not contain."""
    loads = _valid(_Loads, {"loads": data}).loads
    return _service(pick or "server", "", "", loads)


def _from_suite(data: object, pick: str | None) -> MeasuredService:
    """From the cases of one workload with one kind of prefix (bench/suite/result.py)."""
    suite = _valid(_Suite, data)
    closed = [case for case in suite.cases if case.arrival.kind == "closed" and case.arrival.users]
    groups: dict[str, list[_Case]] = {}
    for case in closed:
        groups.setdefault(case.group, []).append(case)
    found = [name for name, cases in groups.items() if pick in (None, name, cases[0].workload)]
    if not found:
        raise binhdan.InvalidArgumentError(
            f"no workload {pick!r} with a closed loop; there are {'; '.join(groups)[:200]}"
        )
    name = max(found, key=lambda name: len(groups[name]))
    cases = sorted(groups[name], key=lambda case: case.arrival.users or 0)
    trials = [one for case in cases for one in case.trials]
    for one in trials:
        if one.failures or not one.end_to_end_s:
            raise binhdan.InvalidArgumentError(
                f"{name}: expected only complete answers in each trial, got {one.failures} failures: "
                "measure again"
            )
    answers = sum(len(one.end_to_end_s) for one in trials)
    return MeasuredService(
        server=f"{suite.identity.engine}, {name}",
        model=suite.identity.model,
        machine=_machine(suite.machine),
        answer_tokens=sum(one.answer_tokens for one in trials) / answers,
        levels=tuple(
            Level(
                case.arrival.users or 0,
                median(len(one.end_to_end_s) / one.seconds for one in case.trials),
                tuple(sorted(second for one in case.trials for second in one.end_to_end_s)),
            )
            for case in cases
        ),
    )


def _from_comparison(data: object, server: str | None) -> MeasuredService:
    comparison = _valid(_Comparison, data)
    names = list(dict.fromkeys(result.server for result in comparison.results))
    if not names or (server is not None and server not in names):
        raise binhdan.InvalidArgumentError(
            f"no server {server!r} in the comparison; there are {', '.join(names)[:200]}"
        )
    server = server or names[0]
    loads = [load for result in comparison.results if result.server == server for load in result.loads]
    return _service(server, comparison.model, _machine(comparison.machine), loads)


def _machine(machine: _Machine) -> str:
    return f"{machine.processor}, {machine.cores} usable cores"


def _service(server: str, model: str, machine: str, loads: Sequence[_Load]) -> MeasuredService:
    """From closed loops, whose concurrency is known. Runs of the same level are merged."""
    closed = sorted((load for load in loads if load.arrivals.users), key=_users)
    if not closed:
        raise binhdan.InvalidArgumentError("expected a load with users (a closed loop), got none")
    for load in closed:
        if load.failures or not load.answers or load.end_to_end_s is None:
            raise binhdan.InvalidArgumentError(
                f"{_users(load)} users: expected only complete answers, got {load.answers} complete answers "
                f"and {sum(load.failures.values())} failures: measure again"
            )
    levels = []
    for users, group in groupby(closed, _users):
        runs = list(group)
        latencies = [load.end_to_end_s for load in runs if load.end_to_end_s is not None]
        seconds = tuple(sorted(second for one in latencies for second in _samples(one)))
        levels.append(Level(users, median(load.answers / load.seconds for load in runs), seconds))
    tokens = [load.answer_tokens for load in closed if load.answer_tokens is not None]
    return MeasuredService(
        server=server,
        model=model,
        machine=machine,
        answer_tokens=median(tokens) if tokens else None,
        levels=tuple(levels),
    )


def _users(load: _Load) -> int:
    return load.arrivals.users or 0


def _samples(known: _Percentiles) -> list[float]:
    """Latencies that have these percentiles. All latencies below the median are set to the median."""
    if not known.p50 <= known.p95 <= known.p99:
        raise binhdan.InvalidArgumentError(
            f"expected ascending percentiles, got {known.p50:g}, {known.p95:g} and {known.p99:g} s"
        )
    points = [
        (0.0, known.p50),
        (0.5, known.p50),
        (0.95, known.p95),
        (0.99, known.p99),
        (1.0, known.p99),
    ]
    found = []
    for number in range(_POINTS):
        share = (number + 0.5) / _POINTS
        after = next(index for index, (at, _) in enumerate(points) if at >= share)
        (left, low), (right, high) = points[after - 1], points[after]
        found.append(low + (high - low) * (share - left) / (right - left))
    return found


_Kind = TypeVar("_Kind", bound=_Part)


def _valid(kind: type[_Kind], data: object) -> _Kind:
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        mistake = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(map(str, mistake["loc"]))
        raise binhdan.InvalidArgumentError(f"the result: {key}: {mistake['msg']}") from error
