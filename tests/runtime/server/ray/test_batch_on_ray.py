"""runtime/server/ray/batch.py: a run on a real Ray, killed and continued, loses and doubles nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from ray_cluster import ray_environment
from serving import ANSWER, QUESTION

pytestmark = pytest.mark.slow

REQUESTS = 960
STARTS = 4  # Ray gives up when a part of it has not started within 30 s, as on a busy machine


def test_a_worker_answers_one_batch_after_the_other(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs the extra ray")
    from binhdan.runtime.server.config import ServerConfig
    from binhdan.runtime.server.ray.batch import _blocks, _Worker

    source = tmp_path / "in.jsonl"
    body = {"messages": [{"role": "user", "content": QUESTION}]}
    lines = [{"custom_id": f"{n}", "url": "/v1/chat/completions", "body": body} for n in range(10)]
    source.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    (table,) = _blocks(source, {"0", "5"}, 16)
    requests = table["request"].to_pylist()
    worker = _Worker(ServerConfig.model_validate({"threads": 1, "context": 256, "max_sequences": 4}), 4)
    results = [
        json.loads(result)
        for part in (requests[:5], requests[5:])
        for result in worker({"request": part})["result"]
    ]
    assert [result["custom_id"] for result in results] == ["1", "2", "3", "4", "6", "7", "8", "9"]
    answers = {result["response"]["body"]["choices"][0]["message"]["content"] for result in results}
    assert answers == {ANSWER}


def test_a_killed_run_continues(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs the extra ray")
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    body = {"messages": [{"role": "user", "content": QUESTION}]}
    lines = [
        json.dumps({"custom_id": f"{number}", "url": "/v1/chat/completions", "body": body})
        for number in range(REQUESTS)
    ]
    source.write_text("\n".join(lines), "utf-8")
    command = [sys.executable, "-m", "binhdan", "batch", str(source), str(output), "--ray", "local"]
    command += ["--max-concurrent", "4", "--context", "256"]
    environment = os.environ | ray_environment()

    def done() -> int:
        return output.read_bytes().count(b"\n") if output.exists() else 0

    for _ in range(STARTS):
        with subprocess.Popen(command, env=environment, start_new_session=True) as run:
            while done() < REQUESTS // 4 and run.poll() is None:
                time.sleep(0.05)
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)
        if done():
            break
    some = done()
    assert REQUESTS // 4 <= some < REQUESTS
    with output.open("ab") as file:
        file.write(b'{"custom_id": "cut')  # a line that was not complete
    assert any(subprocess.run(command, env=environment).returncode == 0 for _ in range(STARTS))
    results = [json.loads(line) for line in output.read_text("utf-8").splitlines()]
    counts = Counter(result["custom_id"] for result in results)
    assert len(counts) == REQUESTS and max(counts.values()) == 1
    answers = {result["response"]["body"]["choices"][0]["message"]["content"] for result in results}
    assert answers == {ANSWER}
