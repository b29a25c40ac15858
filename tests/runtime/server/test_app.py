"""The whole server as a process: a model that does not load, a drain, kill -9 and what is left after it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from server_records import counted
from serving import QUESTION

SYSTEM = "Bạn là trợ lý của cửa hàng sách. " * 30


@contextmanager
def process(*arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """`binhdan serve` on a free port, ready, and its base URL."""
    command = [sys.executable, "-m", "binhdan", "serve", "--port", "0", "--threads", "1", *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as running:
        assert running.stderr is not None
        try:
            url = ""
            while not url:
                line = running.stderr.readline()
                assert line, "it ended"
                url = json.loads(line).get("url", "")
            threading.Thread(target=running.stderr.read, daemon=True).start()
            deadline = time.monotonic() + 60
            while httpx.get(f"{url}/readyz").status_code != 200 and time.monotonic() < deadline:
                time.sleep(0.02)
            yield running, url
        finally:
            running.kill()


def ask(url: str, **more: Any) -> Any:
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION}]
    answer = httpx.post(f"{url}/v1/chat/completions", json={"messages": messages} | more, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_model_that_does_not_load_ends_the_server(tmp_path: Path) -> None:
    path = tmp_path / "hỏng.gguf"
    path.write_bytes(b"GGUF")
    done = subprocess.run(
        [sys.executable, "-m", "binhdan", "serve", "--port", "0", str(path)], capture_output=True, timeout=60
    )
    assert done.returncode == 1
    assert "hỏng.gguf: header" in done.stderr.decode().splitlines()[-1]


@pytest.mark.skipif(os.name == "nt", reason="no such signals")
def test_sigterm_lets_answers_end() -> None:
    with process() as (running, url):
        body = {
            "messages": [{"role": "user", "content": QUESTION}],
            "stream": True,
            "ignore_eos": True,
            "max_tokens": 300,
            "stream_options": {"include_usage": True},
        }
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=60) as answer:
            lines = answer.iter_lines()
            next(lines)
            running.send_signal(signal.SIGTERM)
            rest = list(lines)
        assert rest[-2:] == ["data: [DONE]", ""]
        assert json.loads(rest[-4].removeprefix("data: "))["usage"]["completion_tokens"] == 300
        assert running.wait(30) == 0


@pytest.mark.skipif(os.name == "nt", reason="no such signals")
def test_killed_it_keeps_its_ledger_and_its_prefix_cache(tmp_path: Path) -> None:
    ledger, folder = tmp_path / "sổ.sqlite", tmp_path / "bộ nhớ"
    arguments = ("--ledger", str(ledger), "--prefix-cache-dir", str(folder))
    with process(*arguments) as (running, url):
        first = ask(url)
        assert first["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
        deadline = time.monotonic() + 30
        while not any(folder.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.02)
        while not counted(ledger) and time.monotonic() < deadline:  # it is written once a second
            time.sleep(0.02)
        running.kill()
        running.wait()
    with process(*arguments) as (_, url):
        again = ask(url)
        assert again["usage"]["prompt_tokens_details"]["cached_tokens"] > 64
        assert again["choices"][0]["message"]["content"] == first["choices"][0]["message"]["content"]
        report = httpx.get(f"{url}/v1/cost").json()
        assert report["total"]["answers"] == 2 and report["total"]["cost_vnd"] > 0
