"""Gateways in front of two real servers: streams, and one server that is killed while requests run."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from programs import answers, edited, free_port, nginx_command, running, wait_for
from serving import ANSWER, QUESTION

MODEL = "tiny-vi"
BODY: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": QUESTION}], "max_tokens": 40}
USERS = 6
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
                wait_for(answers(f"http://127.0.0.1:{port}/readyz"), process)
                return cls(process, port)
        raise AssertionError("the server has ended")


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    started = [Server.start() for _ in range(2)]
    yield started
    for server in started:
        server.process.kill()
        server.process.wait()


def streamed(url: str, headers: dict[str, str]) -> str:
    """A streamed answer. Checks that its pieces arrive one by one."""
    body = BODY | {"stream": True}
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, headers=headers, timeout=120) as one:
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


def run_and_kill(url: str, victim: Server, headers: dict[str, str]) -> tuple[Outcome, float]:
    """Users ask one question after the other, and a server is killed meanwhile. Returns the outcome and the
    time of the kill."""
    outcome, end = Outcome(), threading.Event()

    def user() -> None:
        with httpx.Client(timeout=120, headers=headers) as client:
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


def check(url: str, servers: list[Server], headers: dict[str, str] | None = None) -> None:
    """Streams go through; after a kill only requests that were in flight fail."""
    assert [streamed(url, headers or {}) for _ in range(3)] == [ANSWER] * 3
    outcome, killed = run_and_kill(url, servers[0], headers or {})
    print(f"{len(outcome.answered)} answers, {len(outcome.failed)} failed")
    assert len(outcome.failed) <= USERS
    assert [failure for failure in outcome.failed if failure[0] > killed] == []
    assert sum(start > killed for start in outcome.answered) >= 3 * USERS


def test_nginx(servers: list[Server], tmp_path: Path) -> None:
    port = free_port()
    ports = {f"127.0.0.1:{8080 + i}": f"127.0.0.1:{server.port}" for i, server in enumerate(servers)}
    site = edited("nginx-servers.conf", tmp_path, ports | {"listen 8000": f"listen 127.0.0.1:{port}"})
    with running(nginx_command(site), tmp_path / "log", answers(f"http://127.0.0.1:{port}/readyz")):
        check(f"http://127.0.0.1:{port}", servers)


def test_litellm(servers: list[Server], tmp_path: Path) -> None:
    port = free_port()
    ports = {f"127.0.0.1:{8080 + i}": f"127.0.0.1:{server.port}" for i, server in enumerate(servers)}
    config = edited("litellm.yaml", tmp_path, ports)
    key = "sk-" + secrets.token_hex(32)  # the proxy refuses weak ones
    environment = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # no download at the start
        "LITELLM_MASTER_KEY": key,
    }
    command = ["litellm", "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    with running(command, tmp_path / "log", answers(f"{url}/health/liveliness"), environment):
        assert not httpx.post(f"{url}/v1/chat/completions", json=BODY).is_success
        check(url, servers, {"Authorization": f"Bearer {key}"})


def test_vllm_router(servers: list[Server], tmp_path: Path) -> None:
    port = free_port()
    # fmt: off
    command = [
        "vllm-router", "--host", "127.0.0.1", "--port", str(port), "--policy", "cache_aware",
        "--worker-urls", *(f"http://127.0.0.1:{server.port}" for server in servers),
    ]
    # fmt: on
    with running(command, tmp_path / "log", answers(f"http://127.0.0.1:{port}/health")):
        check(f"http://127.0.0.1:{port}", servers)


def test_metrics_for_the_gateway_api_inference_extension(servers: list[Server]) -> None:
    """The names that its endpoint picker reads from vLLM by default (its model server protocol)."""
    page = httpx.get(f"http://127.0.0.1:{servers[0].port}/metrics").text
    for name in ("num_requests_waiting", "num_requests_running", "kv_cache_usage_perc"):
        assert f"# TYPE vllm:{name} gauge" in page
        assert f'vllm:{name}{{model_name="{MODEL}"}} ' in page
