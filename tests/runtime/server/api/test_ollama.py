"""Ollama's API over plain HTTP. tests/clients runs the official client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from serving import ANSWER, QUESTION, serving

from binhdan.runtime.server.http import fields

MESSAGES = [{"role": "user", "content": QUESTION}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"enum": ["Huế"]}}, "required": ["city"]},
    },
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(models={"a": None}, ollama=True) as url:
        yield url


def post(url: str, path: str, **body: Any) -> Any:
    response = httpx.post(url + path, json={"model": "a", "stream": False} | body)
    assert response.status_code == 200, response.text
    return response.json()


def test_chat(url: str) -> None:
    answer = post(url, "/api/chat", messages=MESSAGES, model="a:latest")
    assert answer["message"] == {"role": "assistant", "content": ANSWER}
    assert (answer["model"], answer["done"], answer["done_reason"]) == ("a", True, "stop")
    assert answer["eval_count"] > 5 and answer["eval_duration"] > 0 and answer["created_at"]


def test_a_stream_of_lines(url: str) -> None:
    with httpx.stream("POST", f"{url}/api/chat", json={"messages": MESSAGES}) as response:
        assert response.headers["content-type"] == "application/x-ndjson"
        lines = [json.loads(line) for line in response.iter_lines()]
    assert "".join(line["message"]["content"] for line in lines) == ANSWER
    assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]
    assert lines[-1]["eval_count"] > 5 and len(lines) > 4


def test_generate(url: str) -> None:
    assert post(url, "/api/generate", prompt=QUESTION)["response"] == ANSWER
    short = post(url, "/api/generate", prompt=QUESTION, options={"num_predict": 2, "num_ctx": 4096})
    assert short["done_reason"] == "length" and short["eval_count"] == 2
    assert post(url, "/api/generate")["done_reason"] == "load"
    assert post(url, "/api/generate", prompt="Hà Nội", raw=True, options={"num_predict": 2})["response"]


def test_options_of_loading_are_reported(url: str) -> None:
    body = {"prompt": "a", "stream": False, "options": {"num_ctx": 1, "num_predict": 1}}
    response = httpx.post(f"{url}/api/generate", json=body)
    assert response.headers[fields.HEADER] == "options.num_ctx"


def test_forms_and_tools(url: str) -> None:
    schema = {"type": "object", "properties": {"n": {"enum": [1]}}, "required": ["n"]}
    answer = post(url, "/api/chat", messages=MESSAGES, format=schema)
    assert json.loads(answer["message"]["content"]) == {"n": 1}
    history = [
        *MESSAGES,
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]},
        {"role": "tool", "content": "1", "tool_name": "f"},
    ]
    answer = post(url, "/api/chat", messages=history, tools=[WEATHER], options={"num_predict": 20})
    assert answer["message"]["role"] == "assistant"


def test_models_and_embeddings(url: str) -> None:
    names = [model["name"] for model in httpx.get(f"{url}/api/tags").json()["models"]]
    assert names == ["a"] == [model["name"] for model in httpx.get(f"{url}/api/ps").json()["models"]]
    assert len(post(url, "/api/embed", input=["a", "b"])["embeddings"]) == 2
    assert post(url, "/api/embeddings", prompt="a")["embedding"]
    assert post(url, "/api/show", model="a")["capabilities"] == ["completion", "tools"]
    assert httpx.get(f"{url}/api/version").json()["version"]


def test_errors(url: str) -> None:
    response = httpx.post(f"{url}/api/chat", json={"model": "b", "messages": MESSAGES})
    assert response.status_code == 404 and "expected one of a" in response.json()["error"]
    images = [{"role": "user", "content": "a", "images": ["x"]}]
    assert httpx.post(f"{url}/api/chat", json={"messages": images}).status_code == 400


def test_only_with_the_option() -> None:
    with serving(models={"a": None}) as url:
        assert httpx.get(f"{url}/api/tags").status_code == 404
