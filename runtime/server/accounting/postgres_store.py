"""The ledger's sums in a PostgreSQL database, which several servers share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from binhdan.runtime.server.accounting.totals import COLUMNS, LedgerError, Row, Totals
from binhdan.runtime.server.postgres import Database, DatabaseError, unique_name

_INSERT = (
    f"INSERT INTO binhdan_usage AS old (key, day, model, {', '.join(COLUMNS)}) "
    f"VALUES ({', '.join(['%s'] * (3 + len(COLUMNS)))}) "
    f"ON CONFLICT (key, day, model) "
    f"DO UPDATE SET {', '.join(f'{name} = old.{name} + excluded.{name}' for name in COLUMNS)}"
)
# No row comes back if this batch is written already.
_NEXT = (
    "INSERT INTO binhdan_writers AS old VALUES (%s, %s, now()) "
    "ON CONFLICT (writer) DO UPDATE SET number = excluded.number, seen = now() "
    "WHERE old.number < excluded.number RETURNING number"
)
_OLD = "DELETE FROM binhdan_writers WHERE seen < now() - interval '7 days'"


class PostgresStore:
    """`url`: of the database. Raises LedgerError if it cannot be used.

    A commit whose confirmation is lost may have happened. So each batch has a number, which the database
    keeps for each writer, and a batch that comes again with the same number changes nothing.
    """

    durable = True
    table = "binhdan_usage"

    def __init__(self, url: str) -> None:
        self._writer = unique_name()
        try:
            self._database = Database(url)
            with self._database.transaction() as cursor:
                cursor.execute(_OLD)
        except DatabaseError as error:
            raise LedgerError(f"cannot open the ledger {error}") from error
        self.place = self._database.place

    def write(self, number: int, batch: Mapping[Row, Totals]) -> None:
        try:
            with self._database.transaction() as cursor:
                cursor.execute(_NEXT, (self._writer, number))
                if cursor.fetchone() is not None:
                    # Sorted: two servers that lock the same rows in another order would wait for each other.
                    cursor.executemany(_INSERT, [(*row, *batch[row].values()) for row in sorted(batch)])
        except DatabaseError as error:
            raise LedgerError(f"cannot write the ledger {error}") from error

    def read(self, query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        try:
            statement: Any = query.replace("?", "%s")  # Any: psycopg's type demands a literal
            with self._database.transaction() as cursor:
                rows: list[tuple[Any, ...]] = cursor.execute(statement, values).fetchall()
                return rows
        except DatabaseError as error:
            raise LedgerError(f"cannot read the ledger {error}") from error

    def close(self) -> None:
        self._database.close()
