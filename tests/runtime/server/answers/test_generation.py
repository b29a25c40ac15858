"""Answers that violate what no grammar enforces: the check, the second attempt, finish reason and usage."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from serving import QUESTION, serving

from binhdan.runtime.server.http import fields

MESSAGES: Any = [{"role": "user", "content": QUESTION}]
TEXT = {"type": "string", "maxLength": 12}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(models={"a": None}) as url:
        yield url


def post(url: str, path: str, **body: Any) -> Any:
    answer = httpx.post(f"{url}{path}", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


def chat(url: str, schema: Any, **body: Any) -> tuple[str, str, Any]:
    """The text, the finish reason and the usage of an answer."""
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    value = post(url, "/v1/chat/completions", messages=MESSAGES, response_format=form, max_tokens=60, **body)
    choice = value["choices"][0]
    return choice["message"]["content"], choice["finish_reason"], value["usage"]


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_violates_what_no_grammar_enforces(url: str, stream: bool) -> None:
    def finish(**keywords: Any) -> tuple[str, str]:
        """The finish reason, and the header of dropped keywords."""
        schema = {"type": "object", "properties": {"a": {"enum": [1]}}, "required": ["a"]} | keywords
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        body = {"messages": MESSAGES, "response_format": form, "max_tokens": 60, "stream": stream}
        answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60)
        assert answer.status_code == 200, answer.text
        lines = answer.text.split("\n\n")[:-2] if stream else [answer.text]
        values = [json.loads(line.removeprefix("data: "))["choices"][0] for line in lines]
        return values[-1]["finish_reason"], answer.headers.get(fields.HEADER, "")

    place = "response_format.json_schema.schema"
    assert finish(**{"not": {"required": ["a"]}}) == ("content_filter", f"{place}.not")
    assert finish(**{"not": {"required": ["b"]}}) == ("stop", f"{place}.not")
    assert finish(dependentRequired={"a": ["b"]}) == ("content_filter", f"{place}.dependentRequired")
    assert finish(propertyNames={"maxLength": 1}) == ("stop", f"{place}.propertyNames")
    assert finish() == ("stop", "")
    # A check that takes too long, and a reference that nothing resolves, change nothing.
    slow = {"not": {"properties": {"a": {"$ref": "https://example.invalid/x"}}}}
    assert finish(**slow)[0] == "stop"


def test_a_rejected_answer_gets_a_second_attempt(url: str) -> None:
    greedy = json.loads(chat(url, TEXT)[0])
    answers = [chat(url, TEXT | {"not": {"const": greedy}}, seed=seed)[:2] for seed in range(6)]
    assert {reason for text, reason in answers if json.loads(text) != greedy} == {"stop"}
    assert {reason for text, reason in answers if json.loads(text) == greedy} <= {"content_filter"}
    # The seed decides the second attempt too.
    assert chat(url, TEXT | {"not": {"const": greedy}}, seed=0)[:2] == answers[0]


def test_the_usage_counts_both_attempts(url: str) -> None:
    refused = {"const": 1, "not": {"const": 1}}
    text, reason, once = chat(url, {"const": 1})
    again, refusal, both = chat(url, refused)
    assert (text, reason, again, refusal) == ("1", "stop", "1", "content_filter")
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert both[name] == 2 * once[name]
    _, _, three = chat(url, refused, n=3)
    assert three["completion_tokens"] == 6 * once["completion_tokens"]
    assert three["prompt_tokens"] == 4 * once["prompt_tokens"]  # the first attempts share one
    # The ledger has the same counts.
    total = httpx.get(f"{url}/v1/cost?by=model").json()["total"]
    more = chat(url, refused)[2]
    later = httpx.get(f"{url}/v1/cost?by=model").json()["total"]
    for name in ("prompt_tokens", "answer_tokens"):
        assert later[name] - total[name] == more[name.replace("answer", "completion")]


PARAMETERS: Any = {
    "type": "object",
    "properties": {"days": {"enum": [3]}, "city": {"type": "string", "maxLength": 12}},
    "required": ["days", "city"],
}


def call(url: str, parameters: Any, **more: Any) -> tuple[Any, str]:
    """The arguments of a required call, and the finish reason."""
    tool = {"type": "function", "function": {"name": "weather", "parameters": parameters}}
    body = {"tools": [tool], "tool_choice": "required", "parallel_tool_calls": False, "max_tokens": 200}
    choice = post(url, "/v1/chat/completions", messages=MESSAGES, **body, **more)["choices"][0]
    return json.loads(choice["message"]["tool_calls"][0]["function"]["arguments"]), choice["finish_reason"]


def test_arguments_of_calls_are_checked_too(url: str) -> None:
    greedy, reason = call(url, PARAMETERS)
    assert greedy["days"] == 3 and reason == "tool_calls"
    answers = [call(url, PARAMETERS | {"not": {"const": greedy}}, seed=seed) for seed in range(6)]
    assert {reason for value, reason in answers if value != greedy} == {"tool_calls"}
    assert {reason for value, reason in answers if value == greedy} <= {"content_filter"}
    assert call(url, PARAMETERS | {"dependentRequired": {"days": ["year"]}})[1] == "content_filter"


def test_arguments_whose_schema_nothing_satisfies(url: str) -> None:
    impossible = {"type": "object", "properties": {"x": False}, "required": ["x"]}
    tool = {"type": "function", "function": {"name": "weather", "parameters": impossible}}
    choice = post(
        url,
        "/v1/chat/completions",
        messages=MESSAGES,
        tools=[tool],
        tool_choice="required",
        max_tokens=200,
        parallel_tool_calls=False,
    )["choices"][0]
    assert choice["finish_reason"] in ("content_filter", "length")


def test_other_endpoints_tell_of_it(url: str) -> None:
    schema = {"enum": ["có"], "not": {"type": "string"}}
    form = {"type": "json_schema", "name": "x", "schema": schema}
    response = post(url, "/v1/responses", input=QUESTION, text={"format": form}, max_output_tokens=60)
    assert response["incomplete_details"] == {"reason": "content_filter"}
    message = post(
        url,
        "/v1/messages",
        messages=MESSAGES,
        output_config={"format": {"type": "json_schema", "schema": schema}},
        max_tokens=60,
    )
    assert message["stop_reason"] == "refusal"
