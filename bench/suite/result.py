"""What a run of the suite leaves: one JSON object, of a schema that has a version.

Times are seconds, sizes bytes, energy joules, GB 10^9 bytes. None stands for what was not measured; nothing
is guessed. A file of another version is refused, not half read.
"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from binhdan.bench.common.files import read_whole, write_whole
from binhdan.runtime.errors import BadFormatError, UnsupportedError

# 1: the first. Another number for every change after which an old reader would be wrong.
SCHEMA_VERSION: Final = 1

_MOST_BYTES = 256 << 20

Prefix = Literal["cold", "warm"]
_Count = Annotated[int, Field(ge=0)]
_Amount = Annotated[float, Field(ge=0)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


# ---- the machine ---------------------------------------------------------------------------------------


class Bandwidth(_Record):
    """Reading memory, with so many threads at once."""

    threads: _Count
    gb_per_s: _Amount


class Machine(_Record):
    """What the machine says of itself, and how fast our own probe found it."""

    processor: str
    architecture: str
    system: str  # kernel and its release
    libc: str
    python: str
    cores: _Count  # that the process may use
    processors: _Count  # of the whole machine
    cgroup_cores: float | None  # quota
    cgroup_memory_bytes: int | None
    memory_bytes: int | None
    available_bytes: int | None  # when the run began
    governor: str | None  # of the frequency; several with commas
    mhz: float | None  # mean of the cores while the probe computed
    most_mhz: float | None
    virtual: bool | None
    kernels: tuple[str, ...]  # binhdan's tables that run here, best last
    bandwidth: tuple[Bandwidth, ...]
    peaks: dict[str, float]  # format of the factors -> GOPS with all threads, of the table that computed


# ---- what was run --------------------------------------------------------------------------------------


class Pins(_Record):
    """Everything that would have to be the same for the same figures."""

    engine: str  # "binhdan 0.1.0", or what a server says
    engine_sha256: str | None  # of the shared library
    compiler: str | None
    commit: str | None  # of the sources, "+" behind it: with changes
    isa: str | None
    options: dict[str, Any]  # how the model was loaded
    url: str | None  # of a server
    model: str
    model_sha256: str | None
    model_bytes: int | None
    parameters: int | None
    context: int | None
    workloads: dict[str, str]  # name -> SHA-256 of the file


class Protocol(_Record):
    """How it was measured."""

    rounds: _Count  # each visits every cell once, in another order
    warm_up_rounds: _Count  # that do not count
    seed: int
    threads: int | None
    started: datetime
    seconds: _Amount  # the whole run
    budget_seconds: float | None
    measuring_share: float | None  # of the processor time, spent on measuring
    command: str


# ---- figures -------------------------------------------------------------------------------------------


class Arrival(_Record):
    """closed: each of `users` asks again when it has its answer. open: requests come at random times
    (Poisson), `rate` a second, whatever the answers do."""

    kind: Literal["closed", "open"]
    users: int | None = None
    rate: float | None = None

    @property
    def label(self) -> str:
        if self.kind == "open":
            return "open"
        return f"{self.users} users" if self.users != 1 else "1 user"


class Tail(_Record):
    """Percentiles of all answers; low and high are the interval of the median."""

    p50: _Amount
    p95: _Amount
    p99: _Amount
    low: _Amount
    high: _Amount


class Spent(_Record):
    """What something takes of the machine: processor time with all threads, energy, money."""

    seconds: _Amount
    joules: float | None  # gross
    joules_above_idle: float | None
    vnd: float | None
    usd: float | None


class Round(_Record):
    """One visit to a cell. The three lists have an entry for each answer that came whole."""

    seconds: _Amount  # from the first request to the last byte
    first_token_s: tuple[float, ...]
    per_token_s: tuple[float, ...]  # mean of each answer after its first token
    end_to_end_s: tuple[float, ...]
    failures: _Count
    prompt_tokens: _Count
    cached_tokens: _Count
    answer_tokens: _Count
    characters: _Count  # of the text that these tokens stand for
    joules: float | None
    joules_above_idle: float | None


class Cell(_Record):
    """One workload, asked in one way."""

    workload: str
    arrival: Arrival
    prefix: Prefix
    rounds: tuple[Round, ...]
    first_token_s: Tail | None  # None: no answer came whole
    per_token_s: Tail | None
    end_to_end_s: Tail | None
    tokens_per_s: _Amount  # of all answers together
    answers_per_min: _Amount
    failures: _Count
    # None for open arrivals, which leave the machine idle in between.
    per_token: Spent | None
    per_1000_characters: Spent | None
    per_answer: Spent | None

    @property
    def key(self) -> str:
        return f"{self.workload}, {self.arrival.label}, {self.prefix}"


class LeftOut(_Record):
    """A cell that was not measured, and why."""

    workload: str
    arrival: Arrival
    prefix: Prefix
    reason: str


class Work(_Record):
    """A forward pass, for the roofline."""

    name: str
    seconds: _Amount
    gigabytes: _Amount  # read from memory: weights, keys and values
    giga_operations: _Amount  # multiplications and additions


class ContextPoint(_Record):
    """Speeds after so many tokens, in tokens per second."""

    depth: _Count
    prompt_tokens_per_s: _Amount
    decode_tokens_per_s: _Amount
    decode_limit: _Amount  # at the bandwidth of the memory


class ColdStart(_Record):
    """A fresh process, from its start; medians, the model file in the page cache."""

    runs: _Count
    ready_s: _Amount  # the model is loaded
    first_token_s: _Amount
    answer_s: _Amount
    peak_rss_bytes: _Count  # after one short answer


class PhaseEnergy(_Record):
    """Of one phase alone."""

    tokens: _Count
    seconds: _Amount
    joules: float
    joules_above_idle: float | None

    @property
    def per_token(self) -> float:
        return self.joules / self.tokens if self.tokens else 0.0


class Energy(_Record):
    """Who measured, and the phases apart."""

    source: str
    sampling_hz: _Amount  # 0: not known
    measured: bool  # False: declared
    whole: bool  # all that the machine takes, not the processor's part alone
    idle_watts: float | None
    idle_least: float | None
    idle_most: float | None
    prompt: PhaseEnergy | None
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
    """What the đồng in the cells stand on. Parts and sensitivity are of 1,000 answers of `cell`."""

    board: str
    tariff: str
    utilisation: float
    basis: str
    assumptions: tuple[Assumption, ...]
    usd_vnd: float
    cell: str
    parts: dict[str, dict[str, float]]  # cell -> part -> đồng for 1,000 answers
    sensitivity: tuple[Sensitivity, ...]


class Quality(_Record):
    """Whether speed was bought with worse answers."""

    syllables: _Count  # of the diacritics workload
    right: _Count  # of them restored exactly
    answers_sha256: str  # of greedy answers: the same for builds that answer alike

    @property
    def share(self) -> float:
        return self.right / self.syllables if self.syllables else 0.0


# ---- what disturbed it ---------------------------------------------------------------------------------


class Finding(_Record):
    """One thing that makes the figures doubtful."""

    kind: Literal["steal", "others", "throttling", "frequency", "quota", "swapping", "noise", "meter"]
    amount: float
    text: str


class Disturbance(_Record):
    """Shares of the processor time of the usable cores over the whole run; None: the system does not tell."""

    steal_share: float | None
    others_share: float | None
    throttled_events: int | None
    quota_throttled_s: float | None
    mhz_first: float | None  # mean over the first and the last third
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

    schema_version: Literal[1] = SCHEMA_VERSION
    name: str  # how tables call it
    machine: Machine
    pins: Pins
    protocol: Protocol
    disturbance: Disturbance
    cells: tuple[Cell, ...]
    left_out: tuple[LeftOut, ...]
    work: tuple[Work, ...]
    context: tuple[ContextPoint, ...]
    cold_start: ColdStart | None
    peak_rss_bytes: int | None  # of the process that ran all of it
    energy: Energy | None  # None: no meter, and no watts declared
    cost: Cost | None
    quality: Quality | None

    def cell(self, key: str) -> Cell | None:
        return next((cell for cell in self.cells if cell.key == key), None)


def save_result(result: Result, path: Path) -> None:
    """Raises FileReadError."""
    write_whole(path, result.model_dump_json() + "\n")


def load_result(path: str | Path) -> Result:
    """Raises FileReadError, BadFormatError for what is no result, UnsupportedError for another version."""
    path = Path(path)
    data = read_whole(path, _MOST_BYTES)
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadFormatError(f"{path}: no JSON") from error
    if not isinstance(fields, dict) or "schema_version" not in fields:
        raise BadFormatError(f"{path}: expected what binhdan bench writes, found no schema_version")
    if (version := fields["schema_version"]) != SCHEMA_VERSION:
        raise UnsupportedError(
            f"{path}: schema_version is {version!r:.40}; this binhdan reads {SCHEMA_VERSION}: "
            "measure again, or use the binhdan that wrote it"
        )
    try:
        return Result.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise BadFormatError(f"{path}: {where}: {first['msg']}") from error
