"""runtime/server/api/llama_cpp.py over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

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


def test_the_facts_of_an_answer(client: httpx.Client) -> None:
    answer = complete(client, n_predict=5, temperature=0.5, seed=3, stop=["z"], n_probs=1, top_k=7)
    settings: Any = answer["generation_settings"]
    assert (settings["n_predict"], settings["seed"], settings["temperature"]) == (5, 3, 0.5)
    assert (settings["stop"], settings["n_probs"], settings["top_k"]) == (["z"], 1, 7)
    assert str(answer["prompt"]).endswith(PROMPT) and answer["has_new_line"] is False
    assert complete(client, n_predict=5, grammar='root ::= "a" "\\n" "b"')["has_new_line"] is True
    settings = complete(client, n_predict=2)["generation_settings"]
    assert (settings["seed"], settings["logit_bias"]) == (2**32 - 1, [])
    settings = complete(client, n_predict=2, ignore_eos=True)["generation_settings"]
    assert settings["logit_bias"] and all(one["bias"] is None for one in settings["logit_bias"])


def test_chosen_fields(client: httpx.Client) -> None:
    answer = complete(
        client, n_predict=3, response_fields=["content", "generation_settings/n_predict", "x/y"]
    )
    assert answer.keys() == {"content", "generation_settings/n_predict"}
    assert answer["generation_settings/n_predict"] == 3


def test_several_prompts_and_answers(client: httpx.Client) -> None:
    tokens = client.post("/tokenize", json={"content": PROMPT, "add_special": True}).json()["tokens"]
    single = complete(client, n_predict=4)["content"]
    for prompt in ([PROMPT, PROMPT], [tokens, tokens], [tokens, PROMPT], [{"prompt_string": PROMPT}, tokens]):
        answers: Any = complete(client, n_predict=4, prompt=prompt)
        assert [answer["content"] for answer in answers] == [single, single]
        assert [answer["index"] for answer in answers] == [0, 1]
    several: Any = complete(client, n_predict=2, n_cmpl=3)
    assert len(several) == 3
    # Tokens and texts in one prompt.
    half = len(tokens) // 2
    rest = client.post("/detokenize", json={"tokens": tokens[half:]}).json()["content"]
    mixed = complete(client, n_predict=4, prompt=[*tokens[:half], rest])
    assert (mixed["content"], mixed["tokens_evaluated"]) == (single, len(tokens))
    refused = client.post("/completion", json={"prompt": ["a"] * 65})
    assert refused.status_code == 400 and refused.json()["error"]["param"] == "prompt"
    image = {"prompt_string": "a", "multimodal_data": ["AAAA"]}
    refused = client.post("/completion", json={"prompt": image})
    assert refused.status_code == 400 and "images are not supported" in refused.json()["error"]["message"]


def test_the_tokens_of_a_stream(client: httpx.Client) -> None:
    whole = complete(client, n_predict=12, return_tokens=True)
    body = {"prompt": [PROMPT, PROMPT], "n_predict": 12, "stream": True, "timings_per_token": True}
    lines = client.post("/completion", json=body).text.split("\n\n")
    parts = [json.loads(line.partition("data: ")[2]) for line in lines if line]
    for index in (0, 1):
        mine = [part for part in parts if part["index"] == index]
        assert [token for part in mine[:-1] for token in part["tokens"]] == whole["tokens"]
        assert mine[0]["timings"]["predicted_n"] >= 1 and mine[-1]["generation_settings"]["stream"] is True


def test_a_bias_as_pairs_and_texts(client: httpx.Client) -> None:
    first: Any = complete(client, n_predict=1, return_tokens=True)
    (token,) = first["tokens"]
    text = client.post("/detokenize", json={"tokens": [token]}).json()["content"]
    for bias in ([[token, -100]], [[token, False]], [[text, False]], {text: -100}, {str(token): False}):
        other: Any = complete(client, n_predict=1, return_tokens=True, logit_bias=bias)
        assert other["tokens"] != [token], bias
    for wrong in ([[token, True]], {"": 1}, [[-1, 1]]):
        refused = client.post("/completion", json={"prompt": "a", "logit_bias": wrong})
        assert refused.status_code == 400 and refused.json()["error"]["param"] == "logit_bias", wrong


def test_a_prompt_that_is_too_long(client: httpx.Client) -> None:
    context = client.get("/props").json()["default_generation_settings"]["n_ctx"]
    refused = client.post("/completion", json={"prompt": [1] * (context + 5)})
    error = refused.json()["error"]
    assert (refused.status_code, error["n_prompt_tokens"], error["n_ctx"]) == (400, context + 5, context)


def test_infill_needs_a_model_for_it(client: httpx.Client) -> None:
    body: dict[str, Any] = {"input_prefix": "a", "input_suffix": "b"}
    refused = client.post("/infill", json=body)
    assert refused.status_code == 400 and "filling in the middle" in refused.json()["error"]["message"]
    for extra in ({}, {"filename": "ok"}, {"filename": 1, "text": "a"}):
        refused = client.post("/infill", json=body | {"input_extra": [extra]})
        assert refused.status_code == 400
        assert str(refused.json()["error"]["param"]).startswith("input_extra"), extra


def test_paths_without_a_version(client: httpx.Client) -> None:
    messages = [{"role": "user", "content": "xin chào"}]
    chat = client.post("/chat/completions", json={"messages": messages, "max_tokens": 2}).json()
    assert chat["object"] == "chat.completion"
    assert (
        client.post("/responses", json={"input": "a", "max_output_tokens": 2}).json()["object"] == "response"
    )
    assert client.get("/models").json() == client.get("/v1/models").json()
    (vector,) = client.post("/embedding", json={"content": "xin chào"}).json()
    same = client.post("/v1/embeddings", json={"input": "xin chào"}).json()["data"][0]["embedding"]
    assert vector == {"index": 0, "embedding": [same]}
