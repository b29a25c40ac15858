"""runtime/server/accounting/ledger.py: no answer is lost or counted twice after a crash."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from server_records import bill, counted, record

from binhdan.runtime.server.accounting.ledger import Ledger, day_of
from binhdan.runtime.server.accounting.totals import LedgerError, Totals

NOON = datetime(2026, 11, 22, 5, 0, tzinfo=UTC).timestamp()  # in Hà Nội
DAY = 86_400.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def test_sums(path: Path) -> None:
    with Ledger(path) as ledger:
        ledger.add(record(), bill(joules=2.0, energy_source="rapl package"), NOON)
        ledger.add(record(), bill(), NOON + DAY)
        ledger.add(record(key="bình", model="lớn", cached_tokens=0), bill(cost_vnd=None), NOON + DAY)
        assert ledger.sum(by="key") == [
            ("an", Totals(2, 200, 80, 42, 1, 2.0, 0.5)),
            ("bình", Totals(1, 100, 0, 21, 0, 0.0, 0.0)),
        ]
        days = [(day, totals.answers) for day, totals in ledger.sum(by="day")]
        assert days == [("2026-11-22", 1), ("2026-11-23", 2)]
        assert [model for model, _ in ledger.sum(by="model")] == ["lớn", "tiny"]
        assert [totals.answers for _, totals in ledger.sum(by="day", key="an")] == [1, 1]
        assert ledger.sum(by="day", key="unknown") == []
        with pytest.raises(ValueError, match="expected key, day or model"):
            ledger.sum(by="1; DROP TABLE usage")  # type: ignore[arg-type]


def test_a_ledger_in_memory_creates_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Ledger(None) as ledger:
        ledger.add(record(), bill(), NOON)
        assert [(key, totals.answers) for key, totals in ledger.sum(by="key")] == [("an", 1)]
    assert not list(tmp_path.iterdir())


def test_start_and_end_are_inclusive(path: Path) -> None:
    with Ledger(path) as ledger:
        for day in range(5):
            ledger.add(record(), bill(), NOON + day * DAY)
        second, fourth = date(2026, 11, 23), date(2026, 11, 25)
        assert len(ledger.sum(second, fourth)) == 3
        assert len(ledger.sum(second)) == 4 and len(ledger.sum(None, fourth)) == 4


def test_a_day_begins_at_midnight_in_ha_noi() -> None:
    assert day_of(datetime(2026, 11, 22, 16, 59, 59, tzinfo=UTC).timestamp()) == "2026-11-22"
    assert day_of(datetime(2026, 11, 22, 17, 0, 0, tzinfo=UTC).timestamp()) == "2026-11-23"


def test_a_reopened_ledger_keeps_its_sums(path: Path) -> None:
    for round_ in range(1, 4):
        with Ledger(path) as ledger:
            ledger.add(record(), bill(), NOON)
            assert ledger.sum()[0][1].answers == round_
    assert counted(path) == 3


def test_it_writes_periodically(path: Path) -> None:
    with Ledger(path, interval=0.01) as ledger:
        ledger.add(record(), bill())
        for _ in range(500):
            if counted(path):
                break
            time.sleep(0.01)
        assert counted(path) == 1


def test_close_writes_pending_sums(path: Path) -> None:
    ledger = Ledger(path, interval=3600.0)
    for _ in range(1000):
        ledger.add(record(), bill())
    assert counted(path) == 0
    ledger.close()
    ledger.close()
    assert counted(path) == 1000
    with pytest.raises(ValueError, match="closed"):
        ledger.add(record(), bill())


def test_threads_and_two_connections_lose_nothing(path: Path) -> None:
    with Ledger(path, interval=0.001) as ledger, Ledger(path, interval=0.001) as other:

        def add(to: Ledger) -> None:
            for _ in range(2000):
                to.add(record(), bill())

        threads = [threading.Thread(target=add, args=(to,)) for to in (ledger, other, ledger)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert counted(path) == 6000


async def test_adding_does_not_wait_for_the_disk(path: Path) -> None:
    with Ledger(path, interval=0.01) as ledger, closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")  # blocks the writer of the ledger
        ledger.add(record(), bill())
        await asyncio.sleep(0.1)
        start = time.perf_counter()
        for _ in range(1000):
            ledger.add(record(), bill())
        assert time.perf_counter() - start < 2.0  # a write would wait for SQLite's timeout of 5 s
        other.rollback()
    assert counted(path) == 1001


def test_sums_that_cannot_be_written_are_kept(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Ledger(path, interval=3600.0) as ledger:
        ledger.add(record(), bill())
        with closing(sqlite3.connect(path)) as other, other:
            other.execute("ALTER TABLE usage RENAME TO away")
        for _ in range(2):
            with pytest.raises(LedgerError, match="cannot write"):
                ledger.flush()
        with closing(sqlite3.connect(path)) as other, other:
            other.execute("ALTER TABLE away RENAME TO usage")
    assert counted(path) == 1


def test_a_failing_writer_logs_one_error(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR), Ledger(path, interval=0.005) as ledger:
        with closing(sqlite3.connect(path)) as other, other:
            other.execute("ALTER TABLE usage RENAME TO away")
        ledger.add(record(), bill())
        for _ in range(500):
            if caplog.messages:
                break
            time.sleep(0.01)
        time.sleep(0.1)
        with closing(sqlite3.connect(path)) as other, other:
            other.execute("ALTER TABLE away RENAME TO usage")
    assert len(caplog.messages) == 1 and str(path) not in caplog.text
    assert counted(path) == 1


CHILD = """
import sys, time
from binhdan.runtime.server.accounting.ledger import Ledger
from server_records import bill, record
ledger = Ledger(sys.argv[1], interval=float(sys.argv[2]))
for answer in range(1, 1_000_000):
    ledger.add(record(key=f"key {answer % 50}"), bill())
    print(answer, time.monotonic(), flush=True)
    time.sleep(0.0005)
"""


def kill_while_writing(
    path: Path, interval: float, seconds: float, more_than: int = -1
) -> tuple[list[tuple[int, float]], float]:
    """Kills a child that adds answers, `seconds` after the ledger holds more than `more_than` answers.

    Returns the child's additions as (answer, time) pairs and the time of the kill, all of one monotonic
    clock.
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", CHILD, str(path), str(interval)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout
        lines = [child.stdout.readline()]
        reader = threading.Thread(target=lambda: lines.extend(child.stdout or ()))
        reader.start()
        deadline = time.monotonic() + 30
        while counted(path) <= more_than and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(seconds)
        killed = time.monotonic()
        child.send_signal(signal.SIGKILL)
        reader.join()
    added = [line.split() for line in lines if line.endswith("\n")]
    return [(int(answer), float(when)) for answer, when in added], killed


def test_a_killed_process_loses_recent_answers_only(path: Path) -> None:
    added, killed = kill_while_writing(path, interval=0.2, seconds=6)
    # The last write started at most one interval before the kill. 5 s allow for a slow write on a busy
    # machine.
    old = max(answer for answer, when in added if when < killed - 5.0)
    assert old <= counted(path) <= added[-1][0] + 1


def test_repeated_kills_during_writes(path: Path) -> None:
    before = 0
    for _ in range(4):
        kill_while_writing(path, interval=0.0, seconds=0.2, more_than=before)
        now = counted(path)
        assert now > before
        before = now
        with Ledger(path) as ledger:
            assert sum(totals.answers for _, totals in ledger.sum(by="key")) == now


def test_only_the_owner_can_read_the_files(path: Path) -> None:
    path.touch(mode=0o644)
    with Ledger(path) as ledger:
        ledger.add(record(), bill())
        ledger.flush()
        files = list(path.parent.iterdir())
        assert len(files) == 3  # the file, its -wal, its -shm
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def large_ledger(path: Path) -> bytearray:
    with Ledger(path) as ledger:
        for key in range(2000):
            ledger.add(record(key=f"key {key}"), bill())
    return bytearray(path.read_bytes())


@pytest.mark.parametrize("damage", ["header", "text", "cut", "middle", "counter"])
def test_the_error_for_a_damaged_file_says_what_to_do(path: Path, damage: str) -> None:
    data = large_ledger(path)
    if damage == "header":
        data[:16] = b"not SQLite at all"[:16]
    elif damage == "text":
        data = bytearray("sổ cái\n".encode() * 1000)
    elif damage == "cut":
        del data[len(data) // 2 :]
    elif damage == "middle":
        data[4096 * 2 : 4096 * 12] = os.urandom(4096 * 10)
    else:
        data[4096:4104] = b"\xff" * 8  # the first page of a table
    path.write_bytes(data)
    with pytest.raises(LedgerError, match=r"damaged; move it away"):
        Ledger(path)


def test_random_damage_raises_ledger_error_or_nothing(path: Path) -> None:
    whole = bytes(large_ledger(path))
    for seed in range(60):
        data = bytearray(whole)
        for i in range(20):
            data[(seed * 7919 + i * 104_729) % len(data)] ^= 1 + (seed + i) % 255
        path.write_bytes(data)
        for leftover in ("-wal", "-shm"):
            Path(f"{path}{leftover}").unlink(missing_ok=True)
        try:
            with Ledger(path) as ledger:
                ledger.sum(by="key")
        except LedgerError:
            pass


def test_a_database_of_another_program_is_not_changed(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE usage (cats TEXT)")
    before = path.read_bytes()
    with pytest.raises(LedgerError, match="another program"):
        Ledger(path)
    assert path.read_bytes() == before


def test_a_newer_version_is_rejected(path: Path) -> None:
    Ledger(path).close()
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 7")
    with pytest.raises(LedgerError, match=r"has version 7; this program supports up to 1"):
        Ledger(path)


def test_paths_that_cannot_hold_a_ledger(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="there is no folder"):
        Ledger(tmp_path / "none" / "ledger.sqlite")
    with pytest.raises(LedgerError, match="cannot open"):
        Ledger(tmp_path)
    with pytest.raises(LedgerError, match="not a regular file"):
        Ledger("/dev/null")


def test_a_name_with_a_lone_surrogate_is_stored(path: Path) -> None:
    with Ledger(path) as ledger:
        ledger.add(record(key="half \ud83d"), bill())
        assert [key for key, _ in ledger.sum(by="key")] == ["half ?"]
