"""The format of the result files in bench/results/: the figures of one table, and how to repeat them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from binhdan.bench.common.files import read_whole
from binhdan.bench.common.machine import Machine
from binhdan.runtime.errors import BadFormatError

FOLDER = "bench/results"
FORMAT: Final = 1

_MAX_BYTES = 1 << 20


class Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _decimal(value: object) -> object:
    """Decimals keep the digits of the file: 1.80 stays 1.80."""
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
        raise ValueError(f"expected a number, got {str(value)[:40]!r}")
    return Decimal(value)


Number = Annotated[Decimal, BeforeValidator(_decimal)]


class Spread(Record):
    """A median with the smallest and the largest value, if recorded."""

    median: Number
    low: Number | None = None
    high: Number | None = None


Value = str | Number | Spread | dict[Literal["en", "vi"], str]


class Operation(Record):
    """One line of `binhdan bench profile`: shares are per cent."""

    name: str
    ms: Number
    share: Number | None = None
    gb_per_s: Number | None = None
    gops: Number | None = None
    limit_share: Number | None = None


class ProfiledPass(Record):
    """One pass of `binhdan bench profile`, with the limits that were measured before it."""

    model: str
    kernels: str
    name: str
    threads: int
    kv_type: str
    limit_gb_per_s: Number
    limit_gops: Number
    operations: list[Operation]
    total_ms: Number


Kind = Literal[
    "peers",
    "embeddings",
    "sequences",
    "servers",
    "overhead",
    "prefix",
    "soak",
    "profile",
    "step",
    "start",
    "accuracy",
    "speed",
    "instructions",
    "loops",
    "predictions",
]


class Measured(Record):
    """What is needed to repeat the figures of a result file."""

    format: Literal[1]
    title: str
    date: date | None  # None: not recorded
    machine: Machine | None  # None: not recorded completely; `conditions` holds the known facts
    conditions: list[str]  # facts about the machine and the run that no other field holds
    versions: dict[str, str]  # program -> version, and how it was built
    commands: list[str]

    def facts(self) -> str:
        """The date, the machine and the conditions."""
        facts = [f"{self.date}" if self.date else "date not recorded"]
        if self.machine:
            facts.append(f"{self.machine.processor}, {self.machine.cores} cores, {self.machine.system}")
        return "; ".join(facts + self.conditions)


AnyMeasured = TypeVar("AnyMeasured", bound=Measured)


class Results(Measured):
    """One result file: the figures of one table, and what is needed to repeat them."""

    kind: Kind  # selects the columns
    rows: list[dict[str, Value]] = Field(default=[])
    passes: list[ProfiledPass] = Field(default=[])  # kind "profile" only


def load_results(path: Path) -> Results:
    """Raises FileReadError, and BadFormatError with the field."""
    return load_as(Results, path)


def load_as(kind: type[AnyMeasured], path: Path) -> AnyMeasured:
    """A result file with the fields of `kind`. Raises FileReadError, and BadFormatError with the field."""
    data = read_whole(path, _MAX_BYTES)
    try:
        content = json.loads(data, parse_float=Decimal)
        if isinstance(content, dict) and isinstance(content.get("date"), str):
            content["date"] = date.fromisoformat(content["date"])
    except (ValueError, RecursionError) as error:
        raise BadFormatError(f"{path}: expected a result file in JSON: {error}") from error
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise BadFormatError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def write_results(
    path: Path,
    kind: Kind,
    title: str,
    rows: Sequence[dict[str, Any]],
    *,
    conditions: list[str],
    versions: dict[str, str],
    command: str,
) -> None:
    """Writes a result file of today that depends on no machine."""
    head = {
        "format": FORMAT,
        "kind": kind,
        "title": title,
        "date": date.today().isoformat(),
        "machine": None,
        "conditions": conditions,
        "versions": versions,
        "commands": [command],
    }
    path.write_text(to_text(head, "rows", rows), encoding="utf-8")


def to_text(head: dict[str, Any], key: str, rows: Sequence[dict[str, Any]]) -> str:
    """The text of a result file: one line per row, so that a change of one figure is a change of one line."""
    lines = json.dumps(head, ensure_ascii=False, indent=1).removesuffix("\n}")
    body = ",\n".join(f"  {json.dumps(row, ensure_ascii=False)}" for row in rows)
    return f'{lines},\n "{key}": [\n{body}\n ]\n}}\n'
