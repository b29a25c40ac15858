"""The ledger's sums in one SQLite file, or in memory.

WAL mode keeps the file consistent if a write is interrupted. synchronous=FULL: a commit returns after the
disk has the data, because target machines can lose power at any time; NORMAL could then lose everything since
the last checkpoint. One fsync per second is cheap.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from binhdan.runtime.reasons import file_reason
from binhdan.runtime.server.accounting.totals import COLUMNS, LedgerError, Row, Totals

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
_INSERT = (
    f"INSERT INTO usage (key, day, model, {', '.join(COLUMNS)}) "
    f"VALUES ({', '.join('?' * (3 + len(COLUMNS)))}) "
    f"ON CONFLICT DO UPDATE SET {', '.join(f'{name} = {name} + excluded.{name}' for name in COLUMNS)}"
)


class SqliteStore:
    """`path`: None keeps the sums in memory. Raises LedgerError when the file is damaged, belongs to another
    program, has a newer version or cannot be written."""

    durable = False
    table = "usage"

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self.place = _IN_MEMORY if path is None else os.fspath(path)
        self._database = _open_memory() if path is None else _open(Path(path))

    def write(self, number: int, batch: Mapping[Row, Totals]) -> None:
        try:
            with self._database:  # a local file: a commit that raises has not happened
                self._database.executemany(
                    _INSERT, [(*row, *totals.values()) for row, totals in batch.items()]
                )
        except sqlite3.Error as error:
            raise LedgerError(f"cannot write the ledger {self.place}: {error}") from error

    def read(self, query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        try:
            return self._database.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise LedgerError(f"cannot read the ledger {self.place}: {error}") from error

    def close(self) -> None:
        self._database.close()


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
        raise LedgerError(f"cannot open the ledger {file_reason(error, path)}") from error
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
    database.execute(f"SELECT key, day, model, {', '.join(COLUMNS)} FROM usage LIMIT 0")


def _pragma(database: sqlite3.Connection, name: str) -> int:
    return int(database.execute(f"PRAGMA {name}").fetchone()[0])


def _damaged(path: Path) -> str:
    return f"the ledger {path} is damaged; move it away, with its -wal and -shm files, to start a new one"
