"""What a ledger stores: sums over answers, and the interface of a database that keeps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

from binhdan.runtime.errors import BinhdanError

Row = tuple[str, str, str]  # key, day, model


class LedgerError(BinhdanError):
    """The ledger cannot be used. The message names its file or database: show it to the operator only."""


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
        for name in COLUMNS:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def values(self) -> tuple[float, ...]:
        """The fields in the order of COLUMNS."""
        return tuple(getattr(self, name) for name in COLUMNS)


COLUMNS = tuple(field.name for field in fields(Totals))


class Store(Protocol):
    """A database with the table of sums. Use it from one thread at a time. Raises LedgerError."""

    durable: bool  # a response waits until its bill is written: other machines share the database
    place: str  # for messages to the operator
    table: str  # of the sums

    def write(self, number: int, batch: Mapping[Row, Totals]) -> None:
        """Adds the sums of a batch in one transaction. `number` grows by one with each new batch. After an
        error the same batch comes again with the same number, and is added once in all."""

    def read(self, query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """The rows of a query over `table`, with ? for each value."""

    def close(self) -> None: ...
