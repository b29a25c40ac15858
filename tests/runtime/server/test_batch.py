"""runtime/server/batch.py: results, errors, and a run that is killed and continued."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from serving import ANSWER, QUESTION

from binhdan.runtime.errors import BinhdanError, FileReadError, InvalidArgumentError
from binhdan.runtime.server.batch import run_batch
from binhdan.runtime.server.config import ServerConfig

CONFIG = ServerConfig.model_validate({"threads": 1, "context": 256, "max_sequences": 4})


def request(id: str, url: str = "/v1/chat/completions", **body: Any) -> dict[str, Any]:
    body = body or {"messages": [{"role": "user", "content": QUESTION}], "stream": True}
    return {"custom_id": id, "method": "POST", "url": url, "body": body}


def write(path: Path, *requests: Any) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in requests), "utf-8")
    return path


def results(path: Path) -> dict[str, dict[str, Any]]:
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert max(Counter(line["custom_id"] for line in lines).values()) == 1
    return {line["custom_id"]: line["response"] for line in lines}


async def test_results_of_several_endpoints(tmp_path: Path) -> None:
    source = write(
        tmp_path / "in.jsonl",
        request("chat"),
        request("embed", "/v1/embeddings", input="a"),
        request("restore", "/v1/restore", input=QUESTION.removeprefix("them dau: ")),
        request("wrong", messages=[]),
        request("none", "/v1/nothing"),
    )
    output = tmp_path / "out.jsonl"
    counts = await run_batch(CONFIG, source, output, 4)
    assert (counts.succeeded, counts.failed, counts.skipped) == (3, 2, 0)
    found = results(output)
    assert found["chat"]["body"]["choices"][0]["message"]["content"] == ANSWER
    assert found["restore"]["body"]["data"][0]["text"] == ANSWER
    assert (found["wrong"]["status_code"], found["none"]["status_code"]) == (400, 404)
    assert found["embed"]["body"]["data"] and found["embed"]["request_id"].startswith("req_")
    again = await run_batch(CONFIG, source, output, 4)
    assert (again.succeeded, again.failed, again.skipped) == (0, 0, 5)


async def test_more_requests_than_the_queue_holds(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"max_sequences": 1, "max_waiting": 1})
    source = write(tmp_path / "in.jsonl", *(request(str(i)) for i in range(12)))
    counts = await run_batch(config, source, tmp_path / "out.jsonl", 12)
    assert (counts.succeeded, counts.failed) == (12, 0)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["{"], "line 1: expected a JSON object"),
        (["[]"], "line 1: expected a JSON object"),
        (['{"custom_id": "a"}'], "expected custom_id"),
        ([json.dumps(request("a", "http://x"))], "expected a url"),
        ([json.dumps(request("a") | {"method": "GET"})], "expected the method POST"),
        ([json.dumps(request("a")), "", json.dumps(request("a"))], "line 3: expected unique custom_ids"),
    ],
)
async def test_wrong_lines(tmp_path: Path, lines: list[str], message: str) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text("\n".join(lines), "utf-8")
    with pytest.raises(InvalidArgumentError, match=message):
        await run_batch(CONFIG, source, tmp_path / "out.jsonl", 1)


async def test_wrong_files(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", request("a"))
    with pytest.raises(FileReadError, match=r"none\.jsonl: no such file"):
        await run_batch(CONFIG, tmp_path / "none.jsonl", tmp_path / "out.jsonl", 1)
    assert not (tmp_path / "out.jsonl").exists()
    (tmp_path / "other.jsonl").write_text("a poem\n")
    with pytest.raises(InvalidArgumentError, match="is this another file"):
        await run_batch(CONFIG, source, tmp_path / "other.jsonl", 1)
    assert (tmp_path / "other.jsonl").read_text() == "a poem\n"
    (tmp_path / "bad.gguf").write_bytes(b"GGUF")
    bad = CONFIG.model_copy(update={"models": {"a": str(tmp_path / "bad.gguf")}})
    try:
        counts = await run_batch(bad, source, tmp_path / "out.jsonl", 1)
        assert counts.failed == 1
    except BinhdanError:
        pass


def test_a_run_that_is_killed_and_continued(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", *(request(str(i)) for i in range(300)))
    output = tmp_path / "out.jsonl"
    command = [sys.executable, "-m", "binhdan", "batch", str(source), str(output), "--threads", "1"]
    for kills in range(2):
        process = subprocess.Popen(command, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 120
        while (len(output.read_bytes().splitlines()) if output.exists() else 0) < 20 * (kills + 1):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    with output.open("ab") as file:
        file.write(b'{"id": "batch_req_1", "custom_id": "29')  # as if the kill had cut a line
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = results(output)
    assert set(found) == {str(i) for i in range(300)}
    assert all(one["status_code"] == 200 for one in found.values())
