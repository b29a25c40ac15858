"""Servers under test: child processes that are started, awaited and ended, and servers that already run."""

from __future__ import annotations

import http.client
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

import binhdan

_READY_SECONDS = 300.0
_END_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident bytes of all processes of a server; None where the system does not report them."""

    now: int | None
    peak: int | None


class Running(Protocol):
    """A server that accepts requests."""

    @property
    def url(self) -> str: ...

    def memory(self) -> Memory: ...


class Server(Protocol):
    """A server to measure. Tables use `name`."""

    @property
    def name(self) -> str: ...

    def run(self) -> AbstractContextManager[Running]:
        """Starts the server and waits until it answers. Raises BinhdanError with the last line of its
        output."""


@dataclass(frozen=True, slots=True)
class RemoteServer:
    """A server that runs already, on this or another machine."""

    name: str
    url: str

    @contextmanager
    def run(self) -> Iterator[RemoteServer]:
        yield self

    def memory(self) -> Memory:
        return Memory(None, None)


@dataclass(frozen=True, slots=True)
class ChildServer:
    """A program that this process starts. "{port}" in its command is replaced by a free port."""

    name: str
    command: tuple[str, ...]
    ready_path: str = "/v1/models"  # returns status 200 when the server accepts requests

    @contextmanager
    def run(self) -> Iterator[Child]:
        with tempfile.TemporaryFile() as log:
            child = Child(self, _free_port(), log)
            try:
                child.wait_until_ready()
                yield child
            finally:
                child.end()


class Child:
    """A running ChildServer and all processes that it starts."""

    def __init__(self, server: ChildServer, port: int, log: IO[bytes]) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._server = server
        self._port = port
        self._log = log
        command = [word.replace("{port}", str(port)) for word in server.command]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # its own process group, so that one signal reaches all its processes
            )
        except OSError as error:
            raise binhdan.BinhdanError(f"cannot start {command[0]}: {error.strerror}") from error

    def wait_until_ready(self) -> None:
        """Raises BinhdanError when the process ends, or is not ready in time."""
        deadline = time.monotonic() + _READY_SECONDS
        while not self._is_ready():
            if not self.alive:
                raise binhdan.BinhdanError(
                    f"{self._server.name} ended during its start; its last output: {self._last_line()}"
                )
            if time.monotonic() > deadline:
                raise binhdan.BinhdanError(
                    f"{self._server.name} is not ready after {_READY_SECONDS:g} s: expected status 200 at "
                    f"{self.url}{self._server.ready_path}; its last output: {self._last_line()}"
                )
            time.sleep(0.05)

    def memory(self) -> Memory:
        now = peak = 0
        for pid in _group(self._process.pid):
            with suppress(OSError):
                lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                kib = {key: value for key, _, value in (line.partition(":") for line in lines)}
                now += int(kib.get("VmRSS", "0").split()[0]) << 10
                peak += int(kib.get("VmHWM", "0").split()[0]) << 10
        return Memory(now or None, peak or None)

    def end(self, *, kill: bool = False) -> None:
        """Sends SIGTERM, except with `kill`, and after a while SIGKILL to every process that is left. Does
        nothing for an ended server."""
        if self._process.returncode is not None:
            return
        if not kill:
            self._signal(signal.SIGTERM)
            deadline = time.monotonic() + _END_SECONDS
            while self.alive and time.monotonic() < deadline:
                time.sleep(0.02)
        self._signal(signal.SIGKILL)  # before wait(): afterwards another group may have the same number
        self._process.wait()

    def descriptors(self) -> int | None:
        """Open file descriptors of the first process; None where the system does not report them."""
        try:
            return len(os.listdir(f"/proc/{self._process.pid}/fd"))
        except OSError:
            return None

    @property
    def alive(self) -> bool:
        if self._process.returncode is not None:
            return False
        if not hasattr(os, "waitid"):
            return self._process.poll() is None
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):  # all have ended
            os.killpg(self._process.pid, number)

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
        try:
            connection.request("GET", self._server.ready_path)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _last_line(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "none"


def binhdan_server(
    model: Path | None = None,
    *,
    threads: int | None = None,
    options: Sequence[str] = (),
    name: str = "binhdan",
) -> ChildServer:
    """`binhdan serve` of this installation, with additional command-line `options`."""
    command = [sys.executable, "-m", "binhdan", "serve", *([str(model)] if model else [])]
    command += ["--host", "127.0.0.1", "--port", "{port}", "--log-level", "warning"]
    if threads is not None:
        command += ["--threads", str(threads)]
    return ChildServer(name, (*command, *options), ready_path="/readyz")


def llama_server(
    command: str, model: Path, *, threads: int, sequences: int = 16, name: str = "llama-server"
) -> ChildServer:
    """llama-server of llama.cpp. `command` is the program and options that override ours. Raises
    InvalidArgumentError."""
    program, *options = shlex.split(command) or [""]
    if not program:
        raise binhdan.InvalidArgumentError(
            "expected the command of llama-server, such as 'build/bin/llama-server', got an empty text"
        )
    ours = ["-m", str(model), "-t", str(threads), "-c", "32768", "--parallel", str(sequences)]
    ours += ["--chat-template", "chatml", "--host", "127.0.0.1", "--port", "{port}"]
    return ChildServer(name, (program, *ours, *options), ready_path="/health")


def remote_servers(texts: Iterable[str]) -> list[RemoteServer]:
    """Parses texts such as "LABEL=URL". Raises InvalidArgumentError."""
    servers = []
    for text in texts:
        label, _, url = text.partition("=")
        if not label or "://" not in url:
            raise binhdan.InvalidArgumentError(
                f"expected LABEL=URL, such as vllm=http://127.0.0.1:8000, got {text!r}"
            )
        servers.append(RemoteServer(label, url))
    return servers


def _free_port() -> int:
    """A port that was free at the time of the call."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _group(leader: int) -> Iterator[int]:
    """The processes of a process group, from Linux's /proc."""
    with suppress(OSError):
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                with suppress(OSError, IndexError):
                    # pid (name) state parent group ...; the name may contain spaces and parentheses
                    if int((folder / "stat").read_text().rpartition(")")[2].split()[2]) == leader:
                        yield int(folder.name)
