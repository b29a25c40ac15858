"""The ledger: usage and cost per API key, day and model, in one SQLite file or in a PostgreSQL database.

Sums are collected in memory. A thread of the ledger writes them about once a second, so that the event loop
never waits for a disk. A killed process loses at most the answers since the last write. In a database that
several machines share, each response waits for the write of its bill before its end: see `committed`.

Days are days in Vietnam, a fixed UTC+7: the country has had one time zone without changes since 1975.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import date, datetime, timedelta, timezone
from typing import Literal, Self

from binhdan.runtime.server.accounting.bill import Bill
from binhdan.runtime.server.accounting.record import AnswerRecord
from binhdan.runtime.server.accounting.sqlite_store import SqliteStore
from binhdan.runtime.server.accounting.totals import COLUMNS, LedgerError, Row, Store, Totals
from binhdan.runtime.server.postgres import is_postgres

TIME_ZONE = timezone(timedelta(hours=7), "+07:00")
GroupBy = Literal["key", "day", "model"]

_CLOSE_SECONDS = 4.0  # for the last write to a database that is away
_COMMIT_SECONDS = 5.0  # the longest wait of a response for the write of its bill

_log = logging.getLogger(__name__)


def day_of(seconds: float) -> str:
    """Returns the day in Vietnam, such as "2026-11-22", of a time in seconds since 1970."""
    return datetime.fromtimestamp(seconds, TIME_ZONE).date().isoformat()


class Ledger:
    """An open ledger. Methods may be called from any thread. `add` does not wait for the disk.

    `place`: a SQLite file, the URL of a PostgreSQL database, or None to keep the ledger in memory.
    `interval`: seconds between two writes. Raises LedgerError when the file is damaged, the database cannot
    be reached, or either belongs to another program, has a newer version or cannot be written.
    """

    def __init__(self, place: str | os.PathLike[str] | None, *, interval: float = 1.0) -> None:
        self._pending: dict[Row, Totals] = {}  # one entry per key, day and model
        self._pending_lock = threading.Lock()
        self._batch: dict[Row, Totals] = {}  # being written, or its write has failed
        self._number = 0  # of the batch
        self._database_lock = threading.Lock()
        self._interval = interval
        self._closed = threading.Event()
        self._write_failed = False
        self._store = _open(place)
        self._committer = ThreadPoolExecutor(1, "binhdan-ledger-commit")
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

    async def committed(self) -> None:
        """Waits until all answers added before the call are in a shared database. So a client that sees the
        end of an answer has its bill, even if this machine is lost right after.

        Returns at once for a SQLite ledger, and while the database cannot be written: the sums are kept in
        memory and written later.
        """
        if not self._store.durable or self._write_failed:
            return
        write = asyncio.get_running_loop().run_in_executor(self._committer, self._try_to_write)
        with suppress(TimeoutError):
            async with asyncio.timeout(_COMMIT_SECONDS):
                await asyncio.shield(write)

    def flush(self) -> None:
        """Writes all pending sums. If that fails, raises LedgerError and keeps them for the next flush."""
        with self._database_lock:
            if self._batch:  # of a flush that failed; perhaps only its confirmation was lost
                self._write_batch()
            with self._pending_lock:
                self._batch, self._pending = self._pending, {}
            if self._batch:
                self._number += 1
                self._write_batch()

    def _write_batch(self) -> None:
        self._store.write(self._number, self._batch)
        self._batch = {}

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
        conditions, values = ["1 = 1"], []
        for condition, value in (
            ("day >= ?", start and start.isoformat()),
            ("day <= ?", end and end.isoformat()),
            ("key = ?", key),
        ):
            if value is not None:
                conditions.append(condition)
                values.append(value)
        sums = ", ".join(f"SUM({name})" for name in COLUMNS)
        query = (
            f"SELECT {by}, {sums} FROM {self._store.table} WHERE {' AND '.join(conditions)} "
            f"GROUP BY {by} ORDER BY {by}"
        )
        with self._database_lock:
            rows = self._store.read(query, values)
        return [(group, Totals(*map(int, totals[:5]), *totals[5:])) for group, *totals in rows]

    def close(self) -> None:
        """Writes all pending sums and closes the file. Idempotent. Raises LedgerError if the write fails."""
        with self._pending_lock:
            self._closed.set()
        self._writer.join()
        self._committer.shutdown()
        try:
            self._last_flush()
        finally:
            with self._database_lock:
                self._store.close()

    def _last_flush(self) -> None:
        """Tries for some seconds, because a lost connection is not opened again at once."""
        until = time.monotonic() + _CLOSE_SECONDS
        while True:
            try:
                return self.flush()
            except LedgerError:
                if not self._store.durable or time.monotonic() > until:
                    raise
            time.sleep(_CLOSE_SECONDS / 20)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write_periodically(self) -> None:
        while not self._closed.wait(self._interval):
            self._try_to_write()

    def _try_to_write(self) -> None:
        try:
            self.flush()
            self._write_failed = False
        except LedgerError as error:
            if not self._write_failed:  # log the first failure only, not one per interval
                _log.error(
                    "cannot write the ledger: %s; retrying every %g s", error.__cause__, self._interval
                )
            self._write_failed = True


def _open(place: str | os.PathLike[str] | None) -> Store:
    if not is_postgres(place):
        return SqliteStore(place)
    from binhdan.runtime.server.accounting.postgres_store import PostgresStore  # needs the extra `postgresql`

    return PostgresStore(str(place))


def _storable(name: str) -> str:
    """Replaces lone surrogates, which databases reject, and NUL, which PostgreSQL rejects."""
    return name.encode("utf-8", "replace").decode().replace("\0", "?")
