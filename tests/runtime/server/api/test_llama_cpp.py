"""runtime/server/api/llama_cpp.py over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest
from serving import serving

PROMPT = "Hà Nội là thủ đô"


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with serving() as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


def complete(client: httpx.Client, **body: object) -> dict[str, object]:
    answer = client.post("/completion", json={"prompt": PROMPT} | body)
    assert answer.status_code == 200, answer.text
    result: dict[str, object] = answer.json()
    return result


def test_a_whole_answer(client: httpx.Client) -> None:
    answer = complete(client, n_predict=5, n_probs=2, return_tokens=True)
    assert (answer["stop"], answer["stop_type"], answer["tokens_predicted"]) == (True, "limit", 5)
    assert len(answer["tokens"]) == 5  # type: ignore[arg-type]
    first = answer["completion_probabilities"][0]  # type: ignore[index]
    assert first["id"] == answer["tokens"][0] == first["top_logprobs"][0]["id"]  # type: ignore[index]
    timings = answer["timings"]
    assert timings["predicted_n"] == 5 and timings["prompt_ms"] > 0  # type: ignore[index]
    text = str(answer["content"])
    word = text.split()[1]
    stopped = complete(client, n_predict=5, stop=[word])
    assert (stopped["stop_type"], stopped["stopping_word"]) == ("word", word)
    assert stopped["content"] == text[: text.index(word)]


def test_a_stream_has_the_same_text(client: httpx.Client) -> None:
    whole = complete(client, n_predict=6)
    body = {"prompt": PROMPT, "n_predict": 6, "stream": True}
    lines = client.post("/completion", json=body).text.split("\n\n")
    parts = [json.loads(line.partition("data: ")[2]) for line in lines if line]
    assert "".join(part["content"] for part in parts) == whole["content"]
    assert [part["stop"] for part in parts[-2:]] == [False, True] and parts[-1]["stop_type"] == "limit"


def test_several_prompts_are_refused(client: httpx.Client) -> None:
    refused = client.post("/completion", json={"prompt": ["a", "b"]})
    assert refused.status_code == 400 and "/v1/completions" in refused.json()["error"]["message"]


def test_props(client: httpx.Client) -> None:
    props = client.get("/props").json()
    assert props["default_generation_settings"]["n_ctx"] > 0 and props["total_slots"] == 16
    assert "/" not in props["model_alias"] and props["build_info"].startswith("binhdan ")
