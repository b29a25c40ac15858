"""The result of one run of `binhdan bench run`: one JSON object with a schema version.

Times are seconds, sizes bytes, energy joules, GB 10^9 bytes. None means "not measured"; no value is estimated
unless its field says so. `load_result` rejects files of every other schema version.
"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from binhdan.bench.common.files import read_whole, write_whole
from binhdan.bench.common.machine import Machine
from binhdan.runtime.errors import BadFormatError, UnsupportedError

# Increased by every change that an older reader would misread.
# 2: cases and trials; machine and probe are separate; TTFT and TPOT.
SCHEMA_VERSION: Final = 2

_MAX_BYTES = 256 << 20

Prefix = Literal["cold", "warm"]
_Count = Annotated[int, Field(ge=0)]
_Amount = Annotated[float, Field(ge=0)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


# ---- the machine ---------------------------------------------------------------------------------------


class Bandwidth(_Record):
    """Speed of reading memory with `threads` threads at once."""

    threads: _Count
    gb_per_s: _Amount


class Probe(_Record):
    """State and limits of the machine, read or measured when the run starts (machine_probe.py)."""

    architecture: str
    libc: str
    python: str
    processors: _Count  # of the whole machine; Machine.cores are those that this process may use
    cgroup_cores: float | None  # quota
    cgroup_memory_bytes: int | None
    memory_bytes: int | None
    available_bytes: int | None
    governor: str | None  # of the CPU frequency; several are separated by commas
    mhz: float | None  # mean of the cores directly after the probe's computations
    max_mhz: float | None
    virtual: bool | None
    bandwidth: tuple[Bandwidth, ...]
    peaks: dict[str, float]  # number format -> GOPS of all threads, of the kernel table that the run uses


# ---- what was run --------------------------------------------------------------------------------------


class RunIdentity(_Record):
    """Versions, files and options of a run. A run with the same values repeats the figures."""

    engine: str  # "binhdan 0.1.0", or the name that a server reports
    engine_sha256: str | None  # of the shared library
    compiler: str | None
    commit: str | None  # of the sources; a "+" at the end: with uncommitted changes
    isa: str | None
    options: dict[str, Any]  # load options of the model
    url: str | None  # of a server
    model: str
    model_sha256: str | None
    model_bytes: int | None
    parameters: int | None
    context: int | None
    workloads: dict[str, str]  # name -> SHA-256 of the file


class Protocol(_Record):
    """How the run measured."""

    rounds: _Count  # each holds one trial of every case, in a new random order
    warm_up_rounds: _Count  # not counted
    seed: int
    threads: int | None
    started: datetime
    seconds: _Amount  # the whole run
    budget_seconds: float | None
    measuring_share: float | None  # share of the process's CPU time that the measuring itself took
    command: str


# ---- figures -------------------------------------------------------------------------------------------


class Arrival(_Record):
    """When requests are sent. closed: each of `users` sends its next request when its answer is complete.
    open: requests are sent at the times of a Poisson process with `rate` per second."""

    kind: Literal["closed", "open"]
    users: int | None = None
    rate: float | None = None

    @property
    def label(self) -> str:
        if self.kind == "open":
            return "open"
        return f"{self.users} users" if self.users != 1 else "1 user"


def case_key(workload: str, arrival: Arrival, prefix: Prefix) -> str:
    """The name of a case in tables and files: "short, 4 users, cold"."""
    return f"{workload}, {arrival.label}, {prefix}"


class Percentiles(_Record):
    """Of all answers; `low` and `high` are the 95 % interval of the median."""

    p50: _Amount
    p95: _Amount
    p99: _Amount
    low: _Amount
    high: _Amount


class ResourceUse(_Record):
    """Resources that one token, 1,000 characters or one answer uses."""

    seconds: _Amount  # of the machine with all threads
    joules: float | None  # gross
    joules_above_idle: float | None
    vnd: float | None
    usd: float | None


class Trial(_Record):
    """One measurement of a case. The three lists have one entry for each complete answer."""

    seconds: _Amount  # from the first request to the last byte
    ttft_s: tuple[float, ...]
    tpot_s: tuple[float, ...]  # mean of each answer after its first token
    end_to_end_s: tuple[float, ...]
    failures: _Count
    prompt_tokens: _Count
    cached_tokens: _Count
    answer_tokens: _Count
    characters: _Count  # of the reference texts that the answer tokens correspond to
    joules: float | None
    joules_above_idle: float | None


class CaseResult(_Record):
    """One case (workload, arrival, prefix) over all its trials."""

    workload: str
    arrival: Arrival
    prefix: Prefix
    trials: tuple[Trial, ...]
    ttft_s: Percentiles | None  # None: no answer was complete
    tpot_s: Percentiles | None
    end_to_end_s: Percentiles | None
    tokens_per_s: _Amount  # of all answers together
    answers_per_min: _Amount
    failures: _Count
    # None for open arrivals: the machine is idle between requests.
    per_token: ResourceUse | None
    per_1000_characters: ResourceUse | None
    per_answer: ResourceUse | None

    @property
    def key(self) -> str:
        return case_key(self.workload, self.arrival, self.prefix)


class LeftOut(_Record):
    """A case that was not measured, and the reason."""

    workload: str
    arrival: Arrival
    prefix: Prefix
    reason: str

    @property
    def key(self) -> str:
        return case_key(self.workload, self.arrival, self.prefix)


class ForwardPass(_Record):
    """One forward pass, for the roofline."""

    name: str
    seconds: _Amount
    gigabytes: _Amount  # read from memory: weights, keys and values
    giga_operations: _Amount  # multiplications and additions


class DepthPoint(_Record):
    """Speeds in tokens per second after `depth` tokens."""

    depth: _Count
    prompt_tokens_per_s: _Amount
    decode_tokens_per_s: _Amount
    decode_limit: _Amount  # at the memory bandwidth


class ColdStart(_Record):
    """Seconds since the start of a new process: medians, with the model file in the page cache."""

    runs: _Count
    ready_s: _Amount  # the model is loaded
    ttft_s: _Amount
    answer_s: _Amount
    peak_rss_bytes: _Count  # after one short answer


class PhaseEnergy(_Record):
    """Energy of prefill or of decode alone."""

    tokens: _Count
    seconds: _Amount
    joules: float
    joules_above_idle: float | None

    @property
    def per_token(self) -> float:
        return self.joules / self.tokens if self.tokens else 0.0


class Energy(_Record):
    """The meter, the idle power and the energy of both phases."""

    source: str
    sampling_hz: _Amount  # 0: unknown
    measured: bool  # False: declared by the user
    whole: bool  # True: the whole machine; False: the processor's part
    idle_watts: float | None
    idle_min_watts: float | None
    idle_max_watts: float | None
    prefill: PhaseEnergy | None
    decode: PhaseEnergy | None


class Assumption(_Record):
    name: str
    value: float
    note: str


class Sensitivity(_Record):
    """The cost of 1,000 answers under other assumptions."""

    utilisation: float
    tariff: str
    life_years: float | None
    vnd_per_1000: float
    ratio: float


class Cost(_Record):
    """Assumptions behind the costs of all cases. `sensitivity` is of 1,000 answers of `case`."""

    board: str
    tariff: str
    utilisation: float
    basis: str
    assumptions: tuple[Assumption, ...]
    usd_vnd: float
    case: str
    parts: dict[str, dict[str, float]]  # case -> part -> đồng for 1,000 answers
    sensitivity: tuple[Sensitivity, ...]


class Quality(_Record):
    """Correctness of greedy answers. A faster build must not answer worse."""

    syllables: _Count  # of the diacritics workload
    right: _Count  # syllables restored exactly
    answers_sha256: str  # equal for builds with equal answers

    @property
    def share(self) -> float:
        return self.right / self.syllables if self.syllables else 0.0


# ---- disturbances --------------------------------------------------------------------------------------


class Finding(_Record):
    """One reason to doubt the figures."""

    kind: Literal["steal", "others", "throttling", "frequency", "quota", "swapping", "noise", "meter"]
    amount: float
    text: str


class Disturbance(_Record):
    """Shares are of the CPU time of the usable cores during the run. None: the system does not report it."""

    steal_share: float | None
    others_share: float | None
    throttled_events: int | None
    quota_throttled_s: float | None
    mhz_first: float | None  # mean over the first and the last third of the run
    mhz_last: float | None
    swapped_pages: int | None
    load_before: float | None
    noise: float | None  # half-width of the interval of the run's overall time, as a share
    findings: tuple[Finding, ...]

    @property
    def disturbed(self) -> bool:
        return bool(self.findings)


class Result(_Record):
    """One run."""

    schema_version: Literal[2] = SCHEMA_VERSION
    name: str  # shown in tables
    machine: Machine
    probe: Probe
    identity: RunIdentity
    protocol: Protocol
    disturbance: Disturbance
    cases: tuple[CaseResult, ...]
    left_out: tuple[LeftOut, ...]
    forward_passes: tuple[ForwardPass, ...]
    speed_by_depth: tuple[DepthPoint, ...]
    cold_start: ColdStart | None
    peak_rss_bytes: int | None  # of the process that ran the suite
    energy: Energy | None  # None: no meter was found and no watts were declared
    cost: Cost | None
    quality: Quality | None

    def case(self, key: str) -> CaseResult | None:
        return next((case for case in self.cases if case.key == key), None)


def save_result(result: Result, path: Path) -> None:
    """Raises FileReadError."""
    write_whole(path, result.model_dump_json() + "\n")


def load_result(path: str | Path) -> Result:
    """Raises FileReadError, BadFormatError for other contents, UnsupportedError for another version."""
    path = Path(path)
    data = read_whole(path, _MAX_BYTES)
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadFormatError(f"{path}: expected a JSON object of 'binhdan bench run', got no JSON") from error
    if not isinstance(fields, dict) or "schema_version" not in fields:
        raise BadFormatError(
            f"{path}: expected a JSON object of 'binhdan bench run', got JSON with no schema_version"
        )
    if (version := fields["schema_version"]) != SCHEMA_VERSION:
        raise UnsupportedError(
            f"{path}: schema_version is {version!r:.40}; this binhdan reads {SCHEMA_VERSION}: "
            "measure again, or use the binhdan that wrote the file"
        )
    try:
        return Result.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise BadFormatError(f"{path}: {where}: {first['msg']}") from error
