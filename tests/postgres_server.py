"""Runs a real PostgreSQL server, from Debian's package postgresql, in a temporary folder."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_USER = "binhdan"


class PostgresServer:
    """A server that listens on a unix socket only. `url` is the URL of its database."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self._folder = folder
        self._programs = programs
        # PostgreSQL refuses to run as root; its Debian package has made this account.
        self._user = "postgres" if os.geteuid() == 0 else None
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"postgresql://{_USER}@/postgres?host={folder}"
        if self._user is not None:
            shutil.chown(folder, self._user)
        # fmt: off
        self._run("initdb", "--pgdata", str(folder / "data"), "--username", _USER, "--auth", "trust",
                  "--no-locale", "--encoding", "UTF8", "--no-sync")
        # fmt: on

    def start(self) -> None:
        with (self._folder / "log").open("ab") as log:
            # fmt: off
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._folder / "data", "-k", self._folder,
                 "-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=50"],
                stdout=log, stderr=log, user=self._user, cwd=self._folder, start_new_session=True,
            )
            # fmt: on
        deadline = time.monotonic() + 120
        ready = [self._programs / "pg_isready", "-q", "-h", self._folder, "-U", _USER, "-d", "postgres"]
        while subprocess.run(ready, cwd=self._folder, check=False).returncode:
            assert self._process.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < deadline, "PostgreSQL was not ready within 120 s"
            time.sleep(0.1)

    def stop(self, number: int = signal.SIGQUIT) -> None:
        """Ends the server at once, as a crash does."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait()
            self._process = None

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        done = subprocess.run(command, capture_output=True, user=self._user, cwd=self._folder, check=False)
        assert done.returncode == 0, done.stderr.decode()


@contextmanager
def postgres() -> Iterator[PostgresServer]:
    """Yields a running server. Skips the test without Debian's package postgresql, or without psycopg."""
    pytest.importorskip("psycopg", reason="needs the extra postgresql")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("expected a PostgreSQL server; install Debian's package postgresql")
    with tempfile.TemporaryDirectory(prefix="binhdan-pg-") as folder:
        server = PostgresServer(Path(folder), found[-1].parent)
        server.start()
        try:
            yield server
        finally:
            server.stop()
