"""A connection to the PostgreSQL database that several servers share, and the tables in it.

It needs the extra `postgresql`. Passwords may be in the URL, in ~/.pgpass or in PGPASSWORD; no message
contains them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from binhdan.runtime.errors import BinhdanError

if TYPE_CHECKING:
    import psycopg

_SCHEMES = ("postgresql://", "postgres://")
_VERSION = 1
_LOCK = 0x62646C67  # held while the tables are made
_CONNECT_SECONDS = 5
_STATEMENT_MS = 5000
# A connection that failed is tried again after this time; requests do not wait for it before.
_RETRY_SECONDS = 1.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS binhdan_schema (version INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS binhdan_usage (
  key TEXT NOT NULL,
  day TEXT NOT NULL,
  model TEXT NOT NULL,
  answers BIGINT NOT NULL,
  prompt_tokens BIGINT NOT NULL,
  cached_tokens BIGINT NOT NULL,
  answer_tokens BIGINT NOT NULL,
  measured_answers BIGINT NOT NULL,
  joules DOUBLE PRECISION NOT NULL,
  cost_vnd DOUBLE PRECISION NOT NULL,
  PRIMARY KEY (key, day, model)
);
CREATE INDEX IF NOT EXISTS binhdan_usage_day ON binhdan_usage (day);
CREATE TABLE IF NOT EXISTS binhdan_writers (
  writer TEXT PRIMARY KEY,
  number BIGINT NOT NULL,
  seen TIMESTAMPTZ NOT NULL
);
CREATE TABLE IF NOT EXISTS binhdan_balances (
  key TEXT PRIMARY KEY,
  tokens DOUBLE PRECISION NOT NULL,
  time TIMESTAMPTZ NOT NULL
);
CREATE TABLE IF NOT EXISTS binhdan_running (
  server TEXT NOT NULL,
  key TEXT NOT NULL,
  requests INTEGER NOT NULL,
  seen TIMESTAMPTZ NOT NULL,
  PRIMARY KEY (key, server)
);
"""


class DatabaseError(BinhdanError):
    """The database cannot be used. The message names it, without its password: for the operator only."""


def is_postgres(place: object) -> bool:
    """True for the URL of a PostgreSQL database."""
    return isinstance(place, str) and place.startswith(_SCHEMES)


class Database:
    """One connection. It is opened again after it was lost. Use it from one thread at a time.

    Raises DatabaseError if the database cannot be reached or has tables of a newer version.
    """

    def __init__(self, url: str) -> None:
        try:
            import psycopg
        except ImportError:
            raise DatabaseError(
                "a ledger in PostgreSQL needs psycopg: pip install 'binhdan[postgresql]'"
            ) from None
        self._psycopg = psycopg
        self._url = url
        self._connection: psycopg.Connection | None = None
        self._failed = (0.0, "")  # until when not to connect again, and why
        self.place = self._display()
        with self.transaction() as cursor:
            self._prepare(cursor)

    @contextmanager
    def transaction(self) -> Iterator[psycopg.Cursor]:
        """A transaction: committed at the end, rolled back on an error. Raises DatabaseError. After an error
        of the connection it is unknown whether the transaction was committed."""
        try:
            connection = self._connect()
            with connection.transaction(), connection.cursor() as cursor:
                yield cursor
        except self._psycopg.Error as error:
            self._drop_broken()
            raise DatabaseError(f"{self.place}: {_one_line(error)}") from error

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self) -> psycopg.Connection:
        if self._connection is not None:
            return self._connection
        until, reason = self._failed
        if time.monotonic() < until:
            raise DatabaseError(f"{self.place}: {reason}")
        try:
            self._connection = self._psycopg.connect(
                self._url,
                autocommit=True,  # transactions begin and end explicitly
                connect_timeout=_CONNECT_SECONDS,
                application_name="binhdan",
                options=f"-c statement_timeout={_STATEMENT_MS}",
                # A machine that vanishes without a word is noticed within about 15 s.
                keepalives_idle=5,
                keepalives_interval=5,
                keepalives_count=2,
                tcp_user_timeout=15_000,
            )
        except self._psycopg.Error as error:
            self._failed = (time.monotonic() + _RETRY_SECONDS, _one_line(error))
            raise
        return self._connection

    def _drop_broken(self) -> None:
        if self._connection is not None and (self._connection.closed or self._connection.broken):
            with suppress(self._psycopg.Error):
                self._connection.close()
            self._connection = None

    def _prepare(self, cursor: psycopg.Cursor) -> None:
        """Makes the tables where they are missing. Several servers may start at the same time."""
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        cursor.execute("SELECT to_regclass('binhdan_schema')")
        (exists,) = cursor.fetchone() or (None,)
        if exists is None:
            cursor.execute(_SCHEMA)
            cursor.execute("INSERT INTO binhdan_schema VALUES (%s)", (_VERSION,))
        cursor.execute("SELECT max(version) FROM binhdan_schema")
        (version,) = cursor.fetchone() or (None,)
        if version is None or version > _VERSION:
            raise DatabaseError(
                f"the tables in {self.place} have version {version}; this program supports up to {_VERSION}"
            )

    def _display(self) -> str:
        """The database for messages: "postgresql://host/name"."""
        try:
            parts: dict[str, Any] = self._psycopg.conninfo.conninfo_to_dict(self._url)
        except self._psycopg.Error:
            raise DatabaseError("expected a URL such as postgresql://user@host/database") from None
        return f"postgresql://{parts.get('host', '')}/{parts.get('dbname', parts.get('user', ''))}"


def unique_name() -> str:
    """A name for this process in the database. No other process has it, on any machine."""
    return f"{os.uname().nodename if hasattr(os, 'uname') else 'host'}-{os.getpid()}-{os.urandom(8).hex()}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
