"""Limits per caller over several servers, in the PostgreSQL database that they share.

The database has the balance of each key, and the running requests of each key and server. A server repeats
its counts every few seconds; those of a server that has stopped doing so no longer count. While the database
cannot be used, each server applies the limits by itself.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from binhdan.runtime.server.access.keys import Caller
from binhdan.runtime.server.access.limits import Admission, Limiter, check_running, check_tokens
from binhdan.runtime.server.postgres import Database, DatabaseError, unique_name

if TYPE_CHECKING:
    import psycopg

BEAT_SECONDS = 5.0
LOST_SECONDS = 20.0  # a server without a beat for so long is taken for dead

_log = logging.getLogger("binhdan.server")

# Locks the row of the key until the end of the transaction, so that servers admit one after the other.
_BALANCE = """
INSERT INTO binhdan_balances AS old (key, tokens, time) VALUES (%(key)s, %(capacity)s, clock_timestamp())
ON CONFLICT (key) DO UPDATE SET
  tokens = LEAST(%(capacity)s, old.tokens
    + GREATEST(0, EXTRACT(EPOCH FROM clock_timestamp() - old.time)) * %(capacity)s / 60),
  time = GREATEST(old.time, clock_timestamp())
RETURNING tokens
"""
_CHANGE = "UPDATE binhdan_balances SET tokens = LEAST(%s, tokens + %s) WHERE key = %s"
_OTHERS = """
SELECT COALESCE(SUM(requests), 0) FROM binhdan_running
WHERE key = %s AND server <> %s AND seen > clock_timestamp() - make_interval(secs => %s)
"""
_COUNT = """
INSERT INTO binhdan_running (server, key, requests, seen) VALUES (%s, %s, %s, clock_timestamp())
ON CONFLICT (key, server) DO UPDATE SET requests = excluded.requests, seen = excluded.seen
"""
_FORGET = "DELETE FROM binhdan_running WHERE server = %s AND NOT key = ANY(%s)"
_FORGET_LOST = "DELETE FROM binhdan_running WHERE seen < clock_timestamp() - interval '1 hour'"


class SharedLimiter(Limiter):
    """As Limiter, with balances and running requests of all servers that use the database `url`.

    `max_running` limits this server alone. Raises DatabaseError if the database cannot be used at the start.
    Call `close` at the end.
    """

    def __init__(self, url: str, max_running: int | None = None) -> None:
        super().__init__(max_running)
        self._accounts_of_all = _SharedAccounts(url)
        # One thread, so that changes arrive in their order.
        self._executor = ThreadPoolExecutor(1, "binhdan-limits")
        self._closed = threading.Event()
        self._failed = False
        self._beats = threading.Thread(target=self._beat, name="binhdan-limits-beat", daemon=True)
        self._beats.start()

    @asynccontextmanager
    async def admit(
        self, caller: Caller, prompt_tokens: int, answer_tokens: int = 0
    ) -> AsyncIterator[Admission]:
        limits = caller.limits
        async with super().admit(caller, prompt_tokens, answer_tokens) as local:
            if limits.tokens_per_minute is None and limits.max_concurrent is None:
                yield local
                return
            admission = await self._admit(caller, prompt_tokens + answer_tokens, local)
            try:
                yield admission
            finally:
                admission.settle(0)

    async def settled(self) -> None:
        """Waits until other servers can see the settlements so far."""
        await asyncio.get_running_loop().run_in_executor(self._executor, lambda: None)

    def close(self) -> None:
        """Removes the counts of this server and closes the connection."""
        if not self._closed.is_set():
            self._closed.set()
            self._beats.join()
            self._executor.submit(self._try, self._accounts_of_all.close)
            self._executor.shutdown()

    async def _admit(self, caller: Caller, estimate: int, local: Admission) -> Admission:
        loop = asyncio.get_running_loop()
        pending = loop.run_in_executor(
            self._executor, self._try, lambda: self._accounts_of_all.admit(caller, estimate)
        )
        try:
            charge = await asyncio.shield(pending)
        except asyncio.CancelledError:
            pending.add_done_callback(lambda done: self._undo(caller, done))
            raise
        if charge is None:  # no database
            return local
        return _SharedAdmission(local, charge, lambda refund: self._end(caller, refund))

    def _undo(self, caller: Caller, done: asyncio.Future[float | None]) -> None:
        """Ends an admission whose request was cancelled while it waited for it."""
        if not done.cancelled() and done.exception() is None and (charge := done.result()) is not None:
            self._end(caller, charge)

    def _end(self, caller: Caller, refund: float) -> None:
        if not self._closed.is_set():
            self._executor.submit(self._try, lambda: self._accounts_of_all.end(caller, refund))

    def _try(self, change: Callable[[], float | None]) -> float | None:
        """Runs in the executor. None if the database cannot be used."""
        try:
            result = change()
            self._failed = False
            return result
        except DatabaseError as error:
            if not self._failed:  # log the first failure only
                _log.error("limits are not shared: %s", error)
            self._failed = True
            return None

    def _beat(self) -> None:
        while not self._closed.wait(BEAT_SECONDS):
            self._executor.submit(self._try, self._accounts_of_all.beat)


class _SharedAdmission(Admission):
    """An admission here and in the database."""

    def __init__(self, local: Admission, charge: float, end: Callable[[float], None]) -> None:
        self._local = local
        self._charge = charge
        self._end = end
        self._settled = False

    def settle(self, used: int) -> None:
        self._local.settle(used)
        if not self._settled:
            self._settled = True
            self._end(self._charge - used)


class _SharedAccounts:
    """The tables of the database. Use it from one thread, after the constructor. Raises DatabaseError."""

    def __init__(self, url: str) -> None:
        self._database = Database(url)
        self._server = unique_name()
        self._running: Counter[str] = Counter()  # requests of this server by key
        with self._database.transaction() as cursor:
            cursor.execute(_FORGET_LOST)

    def admit(self, caller: Caller, estimate: int) -> float:
        """Counts a request as running and returns the tokens that it was charged. Raises ApiError, 429."""
        capacity, key = caller.limits.tokens_per_minute, caller.name
        charge = 0 if capacity is None else min(estimate, capacity)
        with self._database.transaction() as cursor:
            cursor.execute(_BALANCE, {"key": key, "capacity": capacity or 0})
            (tokens,) = cursor.fetchone() or (0.0,)
            cursor.execute(_OTHERS, (key, self._server, LOST_SECONDS))
            (others,) = cursor.fetchone() or (0,)
            check_running(caller, self._running[key] + int(others))
            if capacity is not None:
                check_tokens(capacity, tokens, charge, estimate)
                cursor.execute(_CHANGE, (capacity, -charge, key))
            cursor.execute(_COUNT, (self._server, key, self._running[key] + 1))
        self._running[key] += 1
        return charge

    def end(self, caller: Caller, refund: float) -> None:
        """Ends a running request."""
        key, capacity = caller.name, caller.limits.tokens_per_minute
        self._running[key] -= 1  # also without a database: the next beat writes it
        with self._database.transaction() as cursor:
            if capacity is not None and math.isfinite(refund):
                cursor.execute(_CHANGE, (capacity, refund, key))
            cursor.execute(_COUNT, (self._server, key, self._running[key]))

    def beat(self) -> None:
        """Writes the counts of this server again."""
        self._running = +self._running  # without the keys at 0
        with self._database.transaction() as cursor:
            self._write(cursor)

    def close(self) -> None:
        self._running.clear()
        try:
            with self._database.transaction() as cursor:
                self._write(cursor)
        finally:
            self._database.close()

    def _write(self, cursor: psycopg.Cursor) -> None:
        cursor.execute(_FORGET, (self._server, list(self._running)))
        for key in sorted(self._running):
            cursor.execute(_COUNT, (self._server, key, self._running[key]))
