"""The ledger: usage and cost per API key, day and model, in one SQLite file.

Sums are collected in memory. A thread of the ledger writes them about once a second, so that the event loop
never waits for a disk. A killed process loses at most the answers since the last write. WAL mode keeps the
file consistent if a write is interrupted. synchronous=FULL: a commit returns after the disk has the data,
because target machines can lose power at any time; NORMAL could then lose everything since the last
checkpoint. One fsync per second is cheap.

Days are days in Vietnam, a fixed UTC+7: the country has had one time zone without changes since 1975.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
import threading
import time
from contextlib import closing, suppress
from dataclasses import dataclass, fields
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Literal, Self

from binhdan.runtime.errors import BinhdanError
from binhdan.runtime.server.accounting.bill import Bill
from binhdan.runtime.server.accounting.record import AnswerRecord

TIME_ZONE = timezone(timedelta(hours=7), "+07:00")
GroupBy = Literal["key", "day", "model"]

_APPLICATION_ID = 0x62646C67  # "bdlg"
_VERSION = 1
_IN_MEMORY = ":memory:"
_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS usage (
  key TEXT NOT NULL,
  day TEXT NOT NULL,
  model TEXT NOT NULL,
  answers INTEGER NOT NULL,
  prompt_tokens INTEGER NOT NULL,
  cached_tokens INTEGER NOT NULL,
  answer_tokens INTEGER NOT NULL,
  measured_answers INTEGER NOT NULL,
  joules REAL NOT NULL,
  cost_vnd REAL NOT NULL,
  PRIMARY KEY (key, day, model)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS usage_day ON usage (day);
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {_VERSION};
COMMIT;
"""

_log = logging.getLogger(__name__)


class LedgerError(BinhdanError):
    """The ledger's file cannot be used. The message contains its path: show it to the operator only."""


@dataclass(slots=True)
class Totals:
    """Sums over answers."""

    answers: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    answer_tokens: int = 0
    measured_answers: int = 0  # answers with measured joules; `joules` is their sum
    joules: float = 0.0
    cost_vnd: float = 0.0

    def add(self, other: Totals) -> None:
        for name in _COLUMNS:
            setattr(self, name, getattr(self, name) + getattr(other, name))


_COLUMNS = tuple(field.name for field in fields(Totals))
_INSERT = (
    f"INSERT INTO usage (key, day, model, {', '.join(_COLUMNS)}) "
    f"VALUES ({', '.join('?' * (3 + len(_COLUMNS)))}) "
    f"ON CONFLICT DO UPDATE SET {', '.join(f'{name} = {name} + excluded.{name}' for name in _COLUMNS)}"
)
_Row = tuple[str, str, str]  # key, day, model


def day_of(seconds: float) -> str:
    """Returns the day in Vietnam, such as "2026-11-22", of a time in seconds since 1970."""
    return datetime.fromtimestamp(seconds, TIME_ZONE).date().isoformat()


class Ledger:
    """An open ledger. Methods may be called from any thread. `add` does not wait for the disk.

    `path`: None keeps the ledger in memory. `interval`: seconds between two writes. Raises LedgerError when
    the file is damaged, belongs to another program, has a newer version or cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str] | None, *, interval: float = 1.0) -> None:
        self._path = Path(_IN_MEMORY if path is None else path)
        self._pending: dict[_Row, Totals] = {}  # one entry per key, day and model
        self._pending_lock = threading.Lock()
        self._database_lock = threading.Lock()
        self._interval = interval
        self._closed = threading.Event()
        self._write_failed = False
        self._database = _open_memory() if path is None else _open(self._path)
        self._writer = threading.Thread(target=self._write_periodically, name="binhdan-ledger", daemon=True)
        self._writer.start()

    def add(self, record: AnswerRecord, bill: Bill, seconds: float | None = None) -> None:
        """Adds an answer that ended at `seconds` since 1970; None: now. Raises ValueError after `close`."""
        totals = Totals(
            answers=1,
            prompt_tokens=record.prompt_tokens,
            cached_tokens=record.cached_tokens,
            answer_tokens=record.answer_tokens,
            measured_answers=int(bill.joules is not None),
            joules=bill.joules or 0.0,
            cost_vnd=bill.cost_vnd or 0.0,
        )
        day = day_of(time.time() if seconds is None else seconds)
        row = (_storable(record.key), day, _storable(record.model))
        with self._pending_lock:
            if self._closed.is_set():
                raise ValueError("the ledger is closed")
            self._pending.setdefault(row, Totals()).add(totals)

    def flush(self) -> None:
        """Writes all pending sums. If that fails, raises LedgerError and keeps them for the next flush."""
        with self._database_lock:
            with self._pending_lock:
                batch, self._pending = self._pending, {}
            if not batch:
                return
            try:
                with self._database:
                    self._database.executemany(
                        _INSERT,
                        [
                            (*row, *(getattr(totals, name) for name in _COLUMNS))
                            for row, totals in batch.items()
                        ],
                    )
            except BaseException as error:
                with self._pending_lock:
                    for row, totals in batch.items():
                        self._pending.setdefault(row, Totals()).add(totals)
                if isinstance(error, sqlite3.Error):
                    raise LedgerError(f"cannot write the ledger {self._path}: {error}") from error
                raise

    def sum(
        self,
        start: date | None = None,
        end: date | None = None,
        *,
        by: GroupBy = "day",
        key: str | None = None,
    ) -> list[tuple[str, Totals]]:
        """Returns (group, totals) pairs of the days from `start` to `end` inclusive, sorted by group.

        `by`: the column that defines the groups. `start`, `end`: None for no limit. `key`: one key only. The
        totals include all answers added before the call. Raises LedgerError if the ledger cannot be read,
        ValueError for a wrong `by`.
        """
        if by not in ("key", "day", "model"):
            raise ValueError(f"by: expected key, day or model, got {by!r}")
        with suppress(LedgerError):  # the sums on disk can still be read
            self.flush()
        conditions, values = ["1"], []
        for condition, value in (
            ("day >= ?", start and start.isoformat()),
            ("day <= ?", end and end.isoformat()),
            ("key = ?", key),
        ):
            if value is not None:
                conditions.append(condition)
                values.append(value)
        sums = ", ".join(f"SUM({name})" for name in _COLUMNS)
        query = f"SELECT {by}, {sums} FROM usage WHERE {' AND '.join(conditions)} GROUP BY {by} ORDER BY {by}"
        try:
            with self._database_lock:
                rows = self._database.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise LedgerError(f"cannot read the ledger {self._path}: {error}") from error
        return [(group, Totals(*totals)) for group, *totals in rows]

    def close(self) -> None:
        """Writes all pending sums and closes the file. Idempotent. Raises LedgerError if the write fails."""
        with self._pending_lock:
            self._closed.set()
        self._writer.join()
        try:
            self.flush()
        finally:
            with self._database_lock:
                self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write_periodically(self) -> None:
        while not self._closed.wait(self._interval):
            try:
                self.flush()
                self._write_failed = False
            except LedgerError as error:
                if not self._write_failed:  # log the first failure only, not one per interval
                    _log.error(
                        "cannot write the ledger: %s; retrying every %g s", error.__cause__, self._interval
                    )
                self._write_failed = True


def _open_memory() -> sqlite3.Connection:
    database = sqlite3.connect(_IN_MEMORY, check_same_thread=False)
    database.executescript(_SCHEMA)
    return database


def _open(path: Path) -> sqlite3.Connection:
    """Connects to a ledger file and checks it. Creates a missing file. Only the owner can read the file."""
    try:
        # Set the mode before SQLite opens the file: SQLite gives its WAL files the same mode.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise LedgerError(f"the ledger {path} is not a regular file")
            if os.fstat(descriptor).st_mode & 0o077:
                os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise LedgerError(f"cannot open the ledger {path}: {error.strerror}") from error
    database = sqlite3.connect(path, timeout=5.0, check_same_thread=False)
    try:
        _prepare(database, path)
    except sqlite3.DatabaseError as error:
        database.close()
        if isinstance(error, sqlite3.OperationalError):  # locked, full, read-only
            raise LedgerError(f"cannot open the ledger {path}: {error}") from error
        raise LedgerError(f"{_damaged(path)}: {error}") from error
    except LedgerError:
        database.close()
        raise
    return database


def _prepare(database: sqlite3.Connection, path: Path) -> None:
    application, version = _pragma(database, "application_id"), _pragma(database, "user_version")
    tables = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application != _APPLICATION_ID and (tables or application):
        raise LedgerError(f"{path} is a database of another program; expected a ledger of binhdan")
    if version > _VERSION:
        raise LedgerError(f"the ledger {path} has version {version}; this program supports up to {_VERSION}")
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    if application != _APPLICATION_ID:
        database.executescript(_SCHEMA)
    with closing(database.execute("PRAGMA quick_check(1)")) as check:
        (result,) = check.fetchone()
    if result != "ok":
        raise LedgerError(f"{_damaged(path)}: {result}")
    database.execute(f"SELECT key, day, model, {', '.join(_COLUMNS)} FROM usage LIMIT 0")


def _storable(name: str) -> str:
    """Replaces lone surrogates, which SQLite rejects."""
    return name.encode("utf-8", "replace").decode()


def _pragma(database: sqlite3.Connection, name: str) -> int:
    return int(database.execute(f"PRAGMA {name}").fetchone()[0])


def _damaged(path: Path) -> str:
    return f"the ledger {path} is damaged; move it away, with its -wal and -shm files, to start a new one"
