"""The server as a process: a model that fails to load, SIGTERM, and files after SIGKILL."""

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
    """Runs `binhdan serve` on a free port until it is ready; yields the process and its base URL."""
    command = [sys.executable, "-m", "binhdan", "serve", "--port", "0", "--threads", "1", *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as running:
        assert running.stderr is not None
        try:
            url = ""
            while not url:
                line = running.stderr.readline()
                assert line, "the server ended"
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


def test_the_server_ends_if_its_model_fails_to_load(tmp_path: Path) -> None:
    path = tmp_path / "hỏng.gguf"
    path.write_bytes(b"GGUF")
    done = subprocess.run(
        [sys.executable, "-m", "binhdan", "serve", "--port", "0", str(path)], capture_output=True, timeout=60
    )
    assert done.returncode == 1
    assert "hỏng.gguf: header" in done.stderr.decode().splitlines()[-1]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_running_answers_end_after_sigterm() -> None:
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


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_ledger_and_prefix_cache_survive_sigkill(tmp_path: Path) -> None:
    ledger, folder = tmp_path / "sổ.sqlite", tmp_path / "bộ nhớ"
    arguments = ("--ledger", str(ledger), "--prefix-cache-dir", str(folder))
    with process(*arguments) as (running, url):
        first = ask(url)
        assert first["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
        deadline = time.monotonic() + 30
        while not any(folder.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.02)
        while not counted(ledger) and time.monotonic() < deadline:  # written once a second
            time.sleep(0.02)
        running.kill()
        running.wait()
    with process(*arguments) as (_, url):
        again = ask(url)
        assert again["usage"]["prompt_tokens_details"]["cached_tokens"] > 64
        assert again["choices"][0]["message"]["content"] == first["choices"][0]["message"]["content"]
        report = httpx.get(f"{url}/v1/cost").json()
        assert report["total"]["answers"] == 2 and report["total"]["cost_vnd"] > 0
