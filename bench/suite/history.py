"""Speed from version to version: a JSON Lines file in the repository, one line per run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from binhdan.bench.common.files import read_whole
from binhdan.bench.suite.result import Percentiles, Result
from binhdan.runtime.errors import BadFormatError, FileReadError
from binhdan.runtime.reasons import file_reason

_MAX_BYTES = 64 << 20
_MAX_LINE_BYTES = 1 << 20


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Figures(_Record):
    """Figures of one case."""

    ttft_s: Percentiles
    end_to_end_s: Percentiles
    tokens_per_s: float


class Entry(_Record):
    """One line."""

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
    disturbed: tuple[str, ...]  # kinds of findings; empty: undisturbed
    cases: dict[str, Figures]

    @property
    def series(self) -> tuple[str, int, str | None, str]:
        """Only entries with an equal series may be compared."""
        return self.processor, self.cores, self.isa, self.model_sha256 or self.model


def entry_of(result: Result) -> Entry:
    cases = {
        case.key: Figures(ttft_s=case.ttft_s, end_to_end_s=case.end_to_end_s, tokens_per_s=case.tokens_per_s)
        for case in result.cases
        if case.ttft_s is not None and case.end_to_end_s is not None
    }
    return Entry(
        schema_version=result.schema_version,
        started=result.protocol.started,
        name=result.name,
        commit=result.identity.commit,
        engine=result.identity.engine,
        engine_sha256=result.identity.engine_sha256,
        isa=result.identity.isa,
        model=result.identity.model,
        model_sha256=result.identity.model_sha256,
        processor=result.machine.processor,
        cores=result.machine.cores,
        rounds=result.protocol.rounds,
        disturbed=tuple(finding.kind for finding in result.disturbance.findings),
        cases=cases,
    )


def append(path: Path, entry: Entry) -> None:
    """Raises FileReadError, and BadFormatError for a file that is not a history: it stays unchanged."""
    if path.exists():
        read(path)
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(entry.model_dump_json() + "\n")
    except OSError as error:
        raise FileReadError(file_reason(error, path)) from error


def read(path: Path) -> list[Entry]:
    """In file order. Raises FileReadError, and BadFormatError with the line number."""
    data = read_whole(path, _MAX_BYTES)
    if data and not data.endswith(b"\n"):
        raise BadFormatError(
            f"{path}: expected a line break at the end: the last line was cut off; remove it or complete it"
        )
    return [_entry(path, number, line) for number, line in enumerate(data.splitlines(), 1)]


def same_series(entries: Sequence[Entry], entry: Entry) -> list[Entry]:
    return [other for other in entries if other.series == entry.series]


def _entry(path: Path, number: int, line: bytes) -> Entry:
    try:
        if len(line) > _MAX_LINE_BYTES:
            raise BadFormatError(
                f"{path}, line {number}: expected at most {_MAX_LINE_BYTES:,} bytes, got {len(line):,}"
            )
        return Entry.model_validate(json.loads(line))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise BadFormatError(f"{path}, line {number}: {where}: {first['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise BadFormatError(f"{path}, line {number}: expected a JSON object, got no JSON") from error
