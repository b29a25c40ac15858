"""The end of the server with requests that still run: errors, not broken connections."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

BODY = {"messages": [{"role": "user", "content": "kể chuyện"}], "ignore_eos": True, "n": 16}


class Server:
    """`binhdan serve` with a short drain."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "binhdan", "serve", "--port", "0", "--threads", "1"]
        options = ["--drain-seconds", "1", "--max-sequences", "64"]
        self.process = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True)
        self.lines: list[dict[str, Any]] = []
        assert self.process.stderr is not None
        while not self.lines or self.lines[-1]["message"] != "listening":
            self.lines.append(json.loads(self.process.stderr.readline()))
        self.url = self.lines[-1]["url"]
        deadline = time.monotonic() + 60
        while httpx.get(f"{self.url}/readyz").status_code != 200 and time.monotonic() < deadline:
            time.sleep(0.05)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    if server.process.poll() is None:
        server.process.kill()
    server.process.communicate()


def test_requests_at_the_end_of_the_drain(server: Server) -> None:
    url = f"{server.url}/v1/chat/completions"
    plain: list[httpx.Response] = []
    waiting = threading.Thread(target=lambda: plain.append(httpx.post(url, json=BODY, timeout=60)))
    waiting.start()
    with httpx.stream("POST", url, json=BODY | {"stream": True}, timeout=60) as stream:
        lines = stream.iter_lines()
        next(lines)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        ready = httpx.get(f"{server.url}/readyz")
        assert (ready.status_code, ready.json()["status"]) == (503, "draining")
        refused = httpx.post(url, json=BODY)
        assert refused.status_code == 503 and refused.json()["error"]["code"] == "shutting_down"
        assert refused.headers["retry-after"]
        rest = [line for line in lines if line.startswith("data: ")]
    assert json.loads(rest[-2].removeprefix("data: "))["error"]["code"] == "shutting_down"
    assert rest[-1] == "data: [DONE]"
    waiting.join(30)
    (response,) = plain
    assert response.status_code == 503 and response.json()["error"]["code"] == "shutting_down"
    assert response.headers["retry-after"]
    _, stderr = server.process.communicate(timeout=30)
    assert server.process.returncode == 0
    levels = {json.loads(line)["level"] for line in stderr.splitlines()}
    assert "error" not in levels, stderr
