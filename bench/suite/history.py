"""A file that lives beside the sources and grows by a line of JSON for each run: how speed went over time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from binhdan.bench.common.files import read_whole
from binhdan.bench.suite.result import Result, Tail
from binhdan.runtime.errors import BadFormatError, FileReadError

_MOST_BYTES = 64 << 20
_MOST_LINE = 1 << 20


class Figures(BaseModel):
    """Of one cell."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    first_token_s: Tail
    end_to_end_s: Tail
    tokens_per_s: float


class Entry(BaseModel):
    """One line."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    schema_version: int
    started: datetime
    name: str
    commit: str | None
    engine: str
    engine_sha256: str | None
    isa: str | None
    model: str
    model_sha256: str | None
    processor: str
    cores: int
    rounds: int
    disturbed: tuple[str, ...]  # kinds of findings; none: undisturbed
    cells: dict[str, Figures]

    @property
    def series(self) -> tuple[str, int, str | None, str]:
        """Only what agrees in this may be compared."""
        return self.processor, self.cores, self.isa, self.model_sha256 or self.model


def entry_of(result: Result) -> Entry:
    cells = {
        cell.key: Figures(
            first_token_s=cell.first_token_s, end_to_end_s=cell.end_to_end_s, tokens_per_s=cell.tokens_per_s
        )
        for cell in result.cells
        if cell.first_token_s is not None and cell.end_to_end_s is not None
    }
    return Entry(
        schema_version=result.schema_version,
        started=result.protocol.started,
        name=result.name,
        commit=result.pins.commit,
        engine=result.pins.engine,
        engine_sha256=result.pins.engine_sha256,
        isa=result.pins.isa,
        model=result.pins.model,
        model_sha256=result.pins.model_sha256,
        processor=result.machine.processor,
        cores=result.machine.cores,
        rounds=result.protocol.rounds,
        disturbed=tuple(finding.kind for finding in result.disturbance.findings),
        cells=cells,
    )


def append(path: Path, entry: Entry) -> None:
    """Raises FileReadError, and BadFormatError for a file that is none of ours: it is left as it is."""
    if path.exists():
        read(path)
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(entry.model_dump_json() + "\n")
    except OSError as error:
        raise FileReadError(f"{path}: {error.strerror}") from error


def read(path: Path) -> list[Entry]:
    """In the order of the file. Raises FileReadError, and BadFormatError with the line."""
    data = read_whole(path, _MOST_BYTES)
    if data and not data.endswith(b"\n"):
        raise BadFormatError(f"{path}: the last line has no end: it was cut off while it was written")
    return [_entry(path, number, line) for number, line in enumerate(data.splitlines(), 1)]


def same_series(entries: Sequence[Entry], entry: Entry) -> list[Entry]:
    return [other for other in entries if other.series == entry.series]


def _entry(path: Path, number: int, line: bytes) -> Entry:
    try:
        if len(line) > _MOST_LINE:
            raise BadFormatError(f"{path}, line {number}: more than {_MOST_LINE:,} bytes")
        return Entry.model_validate(json.loads(line))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise BadFormatError(f"{path}, line {number}: {where}: {first['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise BadFormatError(f"{path}, line {number}: no JSON") from error
