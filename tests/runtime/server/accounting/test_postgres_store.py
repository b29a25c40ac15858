"""A ledger in a real PostgreSQL server: sums of several servers, lost connections, crashes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from postgres_server import PostgresServer, postgres
from server_records import bill, record

from binhdan.runtime.server.accounting.ledger import Ledger
from binhdan.runtime.server.accounting.postgres_store import PostgresStore
from binhdan.runtime.server.accounting.totals import LedgerError, Totals
from binhdan.runtime.server.postgres import is_postgres

NOON = datetime(2026, 11, 22, 5, 0, tzinfo=UTC).timestamp()  # in Hà Nội


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres() as server:
        yield server


@pytest.fixture
def url(server: PostgresServer) -> str:
    """The database without tables."""
    execute(server.url, "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    return server.url


def execute(url: str, query: str) -> list[tuple[Any, ...]]:
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(query)
        return cursor.fetchall() if cursor.description else []


def counted(url: str) -> int:
    ((answers,),) = execute(url, "SELECT coalesce(sum(answers), 0) FROM binhdan_usage")
    return int(answers)


def test_which_texts_are_urls() -> None:
    assert is_postgres("postgresql://an@db/bill") and is_postgres("postgres://db")
    assert not is_postgres("bill.db") and not is_postgres(None)


def test_sums_are_those_of_all_servers(url: str) -> None:
    with Ledger(url) as one, Ledger(url) as other:
        one.add(record(), bill(joules=2.0, energy_source="rapl package"), NOON)
        other.add(record(), bill(), NOON)
        other.add(record(key="bình\0\ud83d", model="lớn", cached_tokens=0), bill(cost_vnd=None), NOON)
        other.flush()
        assert one.sum(by="key") == [
            ("an", Totals(2, 200, 80, 42, 1, 2.0, 0.5)),
            ("bình??", Totals(1, 100, 0, 21, 0, 0.0, 0.0)),
        ]
        assert [model for model, _ in one.sum(by="model", key="an")] == ["tiny"]
        assert one.sum(datetime(2026, 11, 23, tzinfo=UTC).date()) == []
    assert counted(url) == 3


async def test_committed_waits_for_the_database(url: str) -> None:
    with Ledger(url, interval=3600.0) as ledger:
        for _ in range(3):
            ledger.add(record(), bill())
        await asyncio.gather(*(ledger.committed() for _ in range(5)))
        assert counted(url) == 3


def test_a_batch_with_the_same_number_is_added_once(url: str) -> None:
    """As after a commit whose confirmation was lost."""
    store = PostgresStore(url)
    batch = {("an", "2026-11-22", "tiny"): Totals(answers=1)}
    for number in (1, 1, 2, 1):
        store.write(number, batch)
    store.close()
    assert counted(url) == 2


def test_threads_and_many_servers_lose_nothing(url: str) -> None:
    ledgers = [Ledger(url, interval=0.001) for _ in range(4)]

    def add(to: Ledger) -> None:
        for number in range(500):
            to.add(record(key=f"key {number % 7}"), bill())

    threads = [threading.Thread(target=add, args=(to,)) for to in ledgers * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for ledger in ledgers:
        ledger.close()
    assert counted(url) == 4000


def test_lost_connections_lose_and_double_nothing(url: str) -> None:
    with Ledger(url, interval=0.002) as ledger:
        for _ in range(40):
            for _ in range(25):
                ledger.add(record(), bill())
            time.sleep(0.004)
            execute(
                url,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'binhdan'",
            )
    assert counted(url) == 1000


def test_a_crash_of_the_database(server: PostgresServer, url: str, caplog: pytest.LogCaptureFixture) -> None:
    with Ledger(url, interval=0.01) as ledger:
        ledger.add(record(), bill())
        ledger.flush()
        server.stop(signal.SIGKILL)
        ledger.add(record(), bill())
        asyncio.run(ledger.committed())  # returns: answers do not wait for a database that is away
        with pytest.raises(LedgerError, match="cannot write"):
            ledger.flush()
        server.start()
        ledger.add(record(), bill())
    assert counted(url) == 3
    assert len([text for text in caplog.messages if "cannot write" in text]) <= 1


CHILD = """
import asyncio, sys
from binhdan.runtime.server.accounting.ledger import Ledger
from server_records import bill, record

async def main():
    ledger = Ledger(sys.argv[1])
    for answer in range(1, 1_000_000):
        ledger.add(record(), bill())
        await ledger.committed()
        print(answer, flush=True)

asyncio.run(main())
"""


def test_a_killed_server_loses_no_answer_that_a_client_has_seen(url: str) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", CHILD, url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout
        for line in child.stdout:
            if int(line) == 50:
                child.send_signal(signal.SIGKILL)
                break
        last = [line for line in child.stdout if line.endswith("\n")]
    seen = int(last[-1]) if last else 50
    assert seen <= counted(url) <= seen + 1


def test_tables_of_a_newer_version_are_refused(url: str) -> None:
    Ledger(url).close()
    execute(url, "UPDATE binhdan_schema SET version = 7")
    with pytest.raises(LedgerError, match=r"have version 7; this program supports up to 1"):
        Ledger(url)


@pytest.mark.parametrize("wrong", ["postgresql://an:secret@127.0.0.1:1/none", "postgresql://an:secret@[/x"])
def test_the_error_for_a_wrong_url_does_not_contain_the_password(url: str, wrong: str) -> None:
    with pytest.raises(LedgerError, match="cannot open the ledger") as caught:
        Ledger(wrong)
    assert "secret" not in str(caught.value)
