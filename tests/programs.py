"""Runs the programs of examples/serving, with their files, for tests."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

FOLDER = Path(__file__).parents[1] / "examples" / "serving"
START_SECONDS = 600.0  # of a program on a busy machine


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def edited(name: str, folder: Path, changes: Mapping[str, str]) -> Path:
    """A copy in `folder` of the example `name`, with each key of `changes` replaced by its value."""
    text = (FOLDER / name).read_text("utf-8")
    for old, new in changes.items():
        assert old in text, f"{name} has no {old}"
        text = text.replace(old, new)
    (folder / name).write_text(text, "utf-8")
    return folder / name


def nginx_command(site: Path) -> list[str]:
    """nginx with one site, without files outside its folder."""
    main = site.with_name("main.conf")
    main.write_text(
        f"pid {site.parent}/nginx.pid;\nerror_log stderr;\ndaemon off;\nevents {{}}\n"
        f"http {{ access_log off; include {site}; }}\n"
    )
    return ["nginx", "-c", str(main), "-p", str(site.parent)]


@contextmanager
def running(
    command: list[str], log: Path, ready: Callable[[], bool], environment: Mapping[str, str] | None = None
) -> Iterator[None]:
    """A program, from when it is `ready`. Skips the test if it is not installed; prints its log if the test
    fails."""
    program = shutil.which(command[0], path=f"{os.environ['PATH']}:/usr/sbin:{Path(sys.executable).parent}")
    if program is None:
        pytest.skip(f"no {command[0]} on the PATH; .ci/full installs it")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program, *command[1:]], stdout=output, stderr=output, env=os.environ | (environment or {})
        )
    try:
        wait_for(ready, process)
        yield
    except AssertionError:
        print(log.read_text("utf-8", "replace")[-4000:])
        raise
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def wait_for(ready: Callable[[], bool], process: subprocess.Popen[Any]) -> None:
    """Waits until a program is `ready`."""
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        assert process.poll() is None, f"the program has ended with {process.poll()}"
        assert time.monotonic() < deadline, f"{process.args}: not ready within {START_SECONDS:g} s"
        time.sleep(0.1)


def answers(url: str) -> Callable[[], bool]:
    """Whether GET `url` is answered with 200."""

    def ready() -> bool:
        try:
            return httpx.get(url, timeout=10).status_code == 200
        except httpx.HTTPError:
            return False

    return ready


def listens(port: int) -> Callable[[], bool]:
    """Whether a program listens on a port of this machine."""

    def ready() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            return False
        return True

    return ready
