"""Gateways in front of two real servers: streams, and one server that is killed while requests run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving import ANSWER, QUESTION

FOLDER = Path(__file__).parents[2] / "examples" / "serving"
MODEL = "tiny-vi"
BODY: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": QUESTION}], "max_tokens": 40}
USERS = 6
START_SECONDS = 600.0  # of a gateway on a busy machine
pytestmark = pytest.mark.slow


@dataclass
class Server:
    """`binhdan serve` with the embedded model."""

    process: subprocess.Popen[str]
    port: int

    @classmethod
    def start(cls) -> Server:
        command = [sys.executable, "-m", "binhdan", "serve", "--port", "0", "--threads", "1"]
        command += ["-m", f"{MODEL}=embedded", "--context", "512"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        for line in process.stderr:
            if json.loads(line)["message"] == "listening":
                port = int(json.loads(line)["url"].rpartition(":")[2])
                threading.Thread(target=process.stderr.read, daemon=True).start()
                wait_for(f"http://127.0.0.1:{port}/readyz", process)
                return cls(process, port)
        raise AssertionError("the server has ended")


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    started = [Server.start() for _ in range(2)]
    yield started
    for server in started:
        server.process.kill()
        server.process.wait()


def wait_for(url: str, process: subprocess.Popen[Any]) -> None:
    """Waits until a program answers."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        assert process.poll() is None, f"the program has ended with {process.poll()}"
        try:
            if httpx.get(url, timeout=10).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        assert time.monotonic() < deadline, f"{url}: not within {START_SECONDS:g} s"
        time.sleep(0.1)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@contextmanager
def running(command: list[str], log: Path, ready: str) -> Iterator[None]:
    """A gateway. Skips the test if the program is not installed."""
    program = shutil.which(command[0], path=f"{os.environ['PATH']}:/usr/sbin:{Path(sys.executable).parent}")
    if program is None:
        pytest.skip(f"{command[0]} is not installed")
    with log.open("wb") as output:
        environment = os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}  # no download at the start
        process = subprocess.Popen([program, *command[1:]], stdout=output, stderr=output, env=environment)
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


def streamed(url: str) -> str:
    """A streamed answer. Checks that its pieces arrive one by one."""
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=BODY | {"stream": True}, timeout=120) as one:
        assert one.status_code == 200, one.read()
        lines = [line for line in one.iter_lines() if line.startswith("data: {")]
    assert len(lines) > 3
    choices = [choice for line in lines for choice in json.loads(line.removeprefix("data: "))["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


@dataclass
class Outcome:
    """Requests of a run, by their start before or after the kill."""

    answered: list[float] = field(default_factory=list)
    failed: list[tuple[float, str]] = field(default_factory=list)


def run_and_kill(url: str, victim: Server) -> tuple[Outcome, float]:
    """Users ask one question after the other, and a server is killed meanwhile. Returns the outcome and the
    time of the kill."""
    outcome, end = Outcome(), threading.Event()

    def user() -> None:
        with httpx.Client(timeout=120) as client:
            while not end.is_set():
                start = time.monotonic()
                try:
                    response = client.post(f"{url}/v1/chat/completions", json=BODY)
                    text = response.json()["choices"][0]["message"]["content"] if response.is_success else ""
                    if text == ANSWER:
                        outcome.answered.append(start)
                    else:
                        outcome.failed.append((start, f"{response.status_code} {response.text[:200]}"))
                except (httpx.HTTPError, ValueError) as error:
                    outcome.failed.append((start, repr(error)))

    def enough(after: float, count: int) -> Callable[[], bool]:
        return lambda: sum(start > after for start in outcome.answered) + len(outcome.failed) >= count

    threads = [threading.Thread(target=user) for _ in range(USERS)]
    for thread in threads:
        thread.start()
    wait_until(enough(0.0, 3 * USERS))
    victim.process.kill()
    killed = time.monotonic()
    wait_until(enough(killed, 5 * USERS))
    end.set()
    for thread in threads:
        thread.join()
    return outcome, killed


def wait_until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not done():
        assert time.monotonic() < deadline, "not within 300 s"
        time.sleep(0.02)


def check(url: str, servers: list[Server]) -> None:
    """Streams go through; after a kill only requests that were in flight fail."""
    assert [streamed(url) for _ in range(3)] == [ANSWER] * 3
    outcome, killed = run_and_kill(url, servers[0])
    assert len(outcome.failed) <= USERS
    assert [failure for failure in outcome.failed if failure[0] > killed] == []
    assert sum(start > killed for start in outcome.answered) >= 3 * USERS


def changed(name: str, folder: Path, changes: dict[str, str]) -> Path:
    text = (FOLDER / name).read_text("utf-8")
    for old, new in changes.items():
        assert old in text, f"{name} has no {old}"
        text = text.replace(old, new)
    (folder / name).write_text(text, "utf-8")
    return folder / name


def test_nginx(servers: list[Server], tmp_path: Path) -> None:
    port = free_port()
    ports = {f"127.0.0.1:{8080 + i}": f"127.0.0.1:{server.port}" for i, server in enumerate(servers)}
    site = changed("nginx-servers.conf", tmp_path, ports | {"listen 8000": f"listen 127.0.0.1:{port}"})
    main = tmp_path / "main.conf"
    main.write_text(
        f"pid {tmp_path}/nginx.pid;\nerror_log stderr;\ndaemon off;\nevents {{}}\n"
        f"http {{ access_log off; include {site}; }}\n"
    )
    command = ["nginx", "-c", str(main), "-p", str(tmp_path)]
    with running(command, tmp_path / "log", f"http://127.0.0.1:{port}/readyz"):
        check(f"http://127.0.0.1:{port}", servers)


def test_litellm(servers: list[Server], tmp_path: Path) -> None:
    port = free_port()
    ports = {f"127.0.0.1:{8080 + i}": f"127.0.0.1:{server.port}" for i, server in enumerate(servers)}
    config = changed("litellm.yaml", tmp_path, ports)
    command = ["litellm", "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    with running(command, tmp_path / "log", f"http://127.0.0.1:{port}/health/liveliness"):
        check(f"http://127.0.0.1:{port}", servers)


def test_vllm_router(servers: list[Server], tmp_path: Path) -> None:
    port = free_port()
    # fmt: off
    command = [
        "vllm-router", "--host", "127.0.0.1", "--port", str(port), "--policy", "cache_aware",
        "--worker-urls", *(f"http://127.0.0.1:{server.port}" for server in servers),
    ]
    # fmt: on
    with running(command, tmp_path / "log", f"http://127.0.0.1:{port}/health"):
        check(f"http://127.0.0.1:{port}", servers)


def test_metrics_for_the_gateway_api_inference_extension(servers: list[Server]) -> None:
    """The names that its endpoint picker reads from vLLM by default (its model server protocol)."""
    page = httpx.get(f"http://127.0.0.1:{servers[0].port}/metrics").text
    for name in ("num_requests_waiting", "num_requests_running", "kv_cache_usage_perc"):
        assert f"# TYPE vllm:{name} gauge" in page
        assert f'vllm:{name}{{model_name="{MODEL}"}} ' in page
