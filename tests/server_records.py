"""Records and bills with default values, for tests of the server; a test passes the fields it needs."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from binhdan.runtime.server.accounting.bill import Bill
from binhdan.runtime.server.accounting.record import AnswerRecord


def record(**changes: Any) -> AnswerRecord:
    fields: dict[str, Any] = {
        "request_id": "req-1",
        "route": "/v1/chat/completions",
        "model": "tiny",
        "key": "an",
        "finish_reason": "stop",
        "prompt_tokens": 100,
        "cached_tokens": 40,
        "answer_tokens": 21,
        "queue": 0.01,
        "prefill": 0.1,
        "decode": 1.0,
        "total": 1.2,
    }
    return AnswerRecord(**fields | changes)


def bill(**changes: Any) -> Bill:
    fields: dict[str, Any] = {
        "queue_ms": 10.0,
        "prompt_ms": 100.0,
        "decode_ms": 1000.0,
        "joules": None,
        "energy_source": None,
        "cost_vnd": 0.25,
        "cost_basis": "by hand",
    }
    return Bill(**fields | changes)


def counted(path: Path) -> int:
    """Returns the number of answers in a ledger's file, read over a second connection."""
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        (answers,) = database.execute("SELECT coalesce(sum(answers), 0) FROM usage").fetchone()
    return int(answers)
