"""/v1/responses through the official client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from serving import ANSWER, QUESTION, serving


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(models={"a": None}) as url:
        yield url


def test_text_in_text_out(client: openai.OpenAI) -> None:
    answer = client.responses.create(model="a", input=QUESTION)
    assert (answer.output_text, answer.status, answer.model) == (ANSWER, "completed", "a")
    assert answer.usage is not None and answer.usage.output_tokens > 5


def test_messages_and_instructions(client: openai.OpenAI) -> None:
    answer = client.responses.create(
        model="a",
        instructions="Trả lời ngắn.",
        input=[{"role": "user", "content": [{"type": "input_text", "text": QUESTION}]}],
        max_output_tokens=3,
    )
    assert answer.status == "incomplete" and answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens" and answer.output_text


def test_a_stream_builds_the_same_response(client: openai.OpenAI) -> None:
    with client.responses.stream(model="a", input=QUESTION) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert final.output_text == ANSWER
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed"
    assert kinds.count("response.output_item.added") == kinds.count("response.output_item.done") == 1
    assert kinds.count("response.output_text.delta") > 3


@pytest.mark.parametrize(
    ("field", "value"), [("previous_response_id", "resp_1"), ("background", True), ("conversation", "c")]
)
def test_unsupported_fields_are_refused(client: openai.OpenAI, field: str, value: object) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="a", input="a", extra_body={field: value})
    assert caught.value.param == field and caught.value.code == "unsupported_parameter"


def test_an_input_that_is_too_long(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="a", input="dài " * 50_000)
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "input")


WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "description": "Thời tiết của một thành phố",
    "parameters": {
        "type": "object",
        "properties": {"city": {"enum": ["Hà Nội", "Huế"]}},
        "required": ["city"],
    },
    "strict": False,
}


def test_a_tool_call_and_its_result(client: openai.OpenAI) -> None:
    answer = client.responses.create(
        model="a", input="Huế?", tools=[WEATHER, {"type": "web_search"}], tool_choice="required"
    )
    (call,) = [item for item in answer.output if item.type == "function_call"]
    assert call.name == "weather" and json.loads(call.arguments)["city"] in ("Hà Nội", "Huế")
    history: Any = [
        {"role": "user", "content": "Huế?"},
        *(item.model_dump() for item in answer.output),
        {"type": "function_call_output", "call_id": call.call_id, "output": "mưa"},
    ]
    after = client.responses.create(model="a", input=history, tools=[WEATHER], max_output_tokens=8)
    assert after.output[0].type in ("message", "function_call")


def test_a_stream_of_tool_calls(client: openai.OpenAI) -> None:
    with client.responses.stream(
        model="a", input="Huế?", tools=[WEATHER], tool_choice={"type": "function", "name": "weather"}
    ) as stream:
        events = list(stream)
        final = stream.get_final_response()
    arguments = "".join(
        event.delta for event in events if event.type == "response.function_call_arguments.delta"
    )
    (call,) = [item for item in final.output if item.type == "function_call"]
    assert call.arguments == arguments and json.loads(arguments)["city"]
    kinds = [event.type for event in events]
    assert kinds.count("response.function_call_arguments.done") == 1
    assert [event.sequence_number for event in events] == list(range(len(events)))


def test_tools_and_a_form(client: openai.OpenAI) -> None:
    form: Any = {
        "format": {
            "type": "json_schema",
            "name": "n",
            "schema": {"type": "object", "properties": {"số": {"enum": [1, 2]}}, "required": ["số"]},
        }
    }
    answer = client.responses.create(model="a", input="một", tools=[WEATHER], text=form)
    if answer.output[0].type == "message":
        assert json.loads(answer.output_text)["số"] in (1, 2)
