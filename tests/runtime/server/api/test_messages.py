"""/v1/messages through the official client, against a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from serving import ANSWER, QUESTION, serving

from binhdan.runtime.server.http import fields

anthropic = pytest.importorskip("anthropic", reason="no anthropic: pip install 'binhdan[clients]'")

MESSAGES: Any = [{"role": "user", "content": QUESTION}]
WEATHER: Any = {
    "name": "weather",
    "description": "Thời tiết của một thành phố",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"enum": ["Hà Nội", "Huế"]}},
        "required": ["city"],
    },
}
KEY = "khoa-bi-mat-1"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(models={"a": None}, context=1024, keys={"an": {"key": KEY}}) as url:
        yield url


@pytest.fixture(scope="module")
def claude(url: str) -> Iterator[Any]:
    with anthropic.Anthropic(base_url=url, api_key=KEY, max_retries=0) as client:
        yield client


def test_an_answer(claude: Any) -> None:
    answer = claude.messages.create(model="a", max_tokens=64, messages=MESSAGES)
    assert [block.text for block in answer.content] == [ANSWER]
    assert (answer.stop_reason, answer.role, answer.model) == ("end_turn", "assistant", "a")
    assert answer.usage.input_tokens > 5 and answer.usage.output_tokens > 5
    assert answer.id.startswith("msg_")


def test_a_stream_is_the_same_answer(claude: Any) -> None:
    with claude.messages.stream(model="a", max_tokens=64, messages=MESSAGES) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == ANSWER == final.content[0].text
    assert final.stop_reason == "end_turn" and final.usage.output_tokens > 5


def test_system_blocks_and_ends(claude: Any) -> None:
    parts: Any = [{"role": "user", "content": [{"type": "text", "text": QUESTION, "cache_control": None}]}]
    system: Any = [{"type": "text", "text": "Trả lời ngắn.", "cache_control": {"type": "ephemeral"}}]
    short = claude.messages.create(model="a", max_tokens=3, messages=parts, system=system)
    assert short.stop_reason == "max_tokens" and short.usage.output_tokens == 3
    stopped = claude.messages.create(
        model="a", max_tokens=64, messages=MESSAGES, stop_sequences=["x", "thủ đô"]
    )
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "thủ đô")
    assert stopped.content[0].text == "hà nội là "


def test_the_answer_continues_the_last_message(claude: Any) -> None:
    begun: Any = [*MESSAGES, {"role": "assistant", "content": ANSWER[:6]}]
    answer = claude.messages.create(model="a", max_tokens=64, messages=begun)
    assert answer.content[0].text == ANSWER[6:]


def test_a_tool_call_and_its_result(claude: Any) -> None:
    options: Any = {"model": "a", "max_tokens": 100, "tools": [WEATHER], "messages": MESSAGES}
    answer = claude.messages.create(**options, tool_choice={"type": "tool", "name": "weather"})
    (call,) = answer.content
    assert answer.stop_reason == "tool_use" and call.type == "tool_use"
    assert call.name == "weather" and call.input["city"] in ("Hà Nội", "Huế")
    with claude.messages.stream(**options, tool_choice={"type": "any"}) as stream:
        events = list(stream)
        final = stream.get_final_message()
    assert final.content[0].input["city"] and final.stop_reason == "tool_use"
    assert json.loads("".join(e.partial_json for e in events if e.type == "input_json"))["city"]
    history: Any = [
        *MESSAGES,
        {"role": "assistant", "content": [block.model_dump() for block in answer.content]},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "mưa"}]},
                {"type": "text", "text": "Vậy à?"},
            ],
        },
    ]
    after = claude.messages.create(model="a", max_tokens=8, messages=history, tools=[WEATHER])
    assert after.content


def test_a_form(claude: Any) -> None:
    schema = {"type": "object", "properties": {"số": {"enum": [1, 2]}}, "required": ["số"]}
    extra = {"output_config": {"format": {"type": "json_schema", "schema": schema}}}
    answer = claude.messages.create(model="a", max_tokens=64, messages=MESSAGES, extra_body=extra)
    assert json.loads(answer.content[0].text)["số"] in (1, 2)


def test_count_tokens(claude: Any) -> None:
    counted = claude.messages.count_tokens(model="a", messages=MESSAGES, system="Trả lời ngắn.")
    answer = claude.messages.create(model="a", max_tokens=1, messages=MESSAGES, system="Trả lời ngắn.")
    assert counted.input_tokens == answer.usage.input_tokens + answer.usage.cache_read_input_tokens
    assert [model.id for model in claude.models.list()] == ["a"]


def test_errors_have_the_form_of_the_api(claude: Any, url: str) -> None:
    with pytest.raises(anthropic.NotFoundError, match="expected one of a"):
        claude.messages.create(model="b", max_tokens=1, messages=MESSAGES)
    with pytest.raises(anthropic.AuthenticationError):
        claude.with_options(api_key="sai").messages.create(model="a", max_tokens=1, messages=MESSAGES)
    image: Any = [{"type": "image", "source": {"type": "url", "url": "http://x"}}]
    with pytest.raises(anthropic.BadRequestError, match=r"content\[0\]: images are not supported") as caught:
        claude.messages.create(model="a", max_tokens=1, messages=[{"role": "user", "content": image}])
    body = caught.value.response.json()
    assert body["type"] == "error" and body["error"]["type"] == "invalid_request_error"


def test_tools_of_the_provider_are_reported(url: str) -> None:
    body = {"messages": MESSAGES, "max_tokens": 2, "tools": [{"type": "web_search_20250305", "name": "w"}]}
    response = httpx.post(f"{url}/v1/messages", json=body, headers={"x-api-key": KEY})
    assert response.status_code == 200 and response.headers[fields.HEADER] == "tools[0]"
