"""response_format and tools through the official client: answers that are valid by construction."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Literal

import openai
import pydantic
import pytest
from serving import QUESTION, serving

MESSAGES: Any = [{"role": "user", "content": QUESTION}]
SCHEMA: Any = {
    "type": "object",
    "properties": {
        "tên": {"type": "string", "maxLength": 12},
        "miền": {"enum": ["Bắc", "Trung", "Nam"]},
        "số": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 99}, "maxItems": 3},
    },
    "required": ["tên", "miền", "số"],
    "additionalProperties": False,
}
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": "Thời tiết",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"enum": ["Hà Nội", "Huế"]},
                    "days": {"type": "integer", "minimum": 1, "maximum": 9},
                },
                "required": ["city", "days"],
            },
        },
    }
    for name in ("weather", "forecast")
]


class Place(pydantic.BaseModel):
    miền: Literal["Bắc", "Nam"]
    số: int = pydantic.Field(ge=0, le=9)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(models={"a": None}) as url:
        yield url


def ask(client: openai.OpenAI, response_format: Any, **more: Any) -> str:
    answer = client.chat.completions.create(
        model="a", messages=MESSAGES, response_format=response_format, **{"max_tokens": 300} | more
    )
    assert answer.choices[0].finish_reason == "stop"
    return answer.choices[0].message.content or ""


@pytest.mark.parametrize("temperature", [0, 1.5])
def test_a_json_schema(client: openai.OpenAI, temperature: float) -> None:
    response_format = {
        "type": "json_schema",
        "json_schema": {"name": "nơi", "schema": SCHEMA, "strict": True},
    }
    value = json.loads(ask(client, response_format, temperature=temperature, seed=1))
    assert value.keys() == {"tên", "miền", "số"} and value["miền"] in ("Bắc", "Trung", "Nam")
    assert len(value["tên"]) <= 12 and all(0 <= one <= 99 for one in value["số"])


def test_parse_of_the_client(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(
        model="a", messages=MESSAGES, response_format=Place, max_tokens=300
    )
    assert isinstance(answer.choices[0].message.parsed, Place)


def test_any_json_object(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="a",
        messages=MESSAGES,
        response_format={"type": "json_object"},
        max_tokens=400,
        temperature=1,
        seed=5,
    ).choices[0]
    if answer.finish_reason == "stop":
        assert isinstance(json.loads(answer.message.content or ""), dict)
    assert (answer.message.content or "").startswith("{")


def test_regex_and_grammars(client: openai.OpenAI) -> None:
    assert re.fullmatch(r"0\d{9}", ask(client, {"type": "regex", "pattern": r"0\d{9}"}))
    lark = 'start: "có" | "không" | "chưa biết"'
    assert ask(client, {"type": "grammar", "grammar": lark}) in ("có", "không", "chưa biết")
    gbnf = 'root ::= "vâng" | "dạ " [0-9] [0-9]? "."'
    assert re.fullmatch(r"vâng|dạ \d\d?\.", ask(client, {"type": "grammar", "grammar": gbnf}))


def test_completions_and_responses(client: openai.OpenAI) -> None:
    response_format = {"type": "regex", "pattern": "[ab]{5}"}
    text = (
        client.completions.create(model="a", prompt="x", extra_body={"response_format": response_format})
        .choices[0]
        .text
    )
    assert re.fullmatch("[ab]{5}", text)
    response = client.responses.parse(model="a", input="x", text_format=Place)
    assert isinstance(response.output_parsed, Place)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "forecast"}}])
def test_a_required_call(client: openai.OpenAI, choice: Any) -> None:
    answer = client.chat.completions.create(
        model="a",
        messages=MESSAGES,
        tools=TOOLS,
        tool_choice=choice,
        parallel_tool_calls=False,
        max_tokens=300,
    ).choices[0]
    assert answer.finish_reason == "tool_calls" and answer.message.tool_calls is not None
    (call,) = answer.message.tool_calls
    assert call.type == "function" and call.id
    arguments = json.loads(call.function.arguments)
    assert arguments["city"] in ("Hà Nội", "Huế") and 1 <= arguments["days"] <= 9
    if choice != "required":
        assert call.function.name == "forecast"


def test_a_streamed_call_equals_the_whole_one(client: openai.OpenAI) -> None:
    request: Any = {"model": "a", "messages": MESSAGES, "tools": TOOLS, "tool_choice": "required"}
    request |= {"parallel_tool_calls": False, "max_tokens": 300}
    whole = client.chat.completions.create(**request).choices[0].message.tool_calls
    with client.chat.completions.stream(**request) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion().choices[0]
    assert final.finish_reason == "tool_calls" and final.message.tool_calls and whole
    assert final.message.tool_calls[0].function.arguments == whole[0].function.arguments


def test_calls_and_results_in_earlier_messages(client: openai.OpenAI) -> None:
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"city": "Huế", "days": 1}'},
    }
    history: Any = [
        *MESSAGES,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "nắng"},
    ]
    for tools in ({"tools": TOOLS}, {}):
        assert client.chat.completions.create(model="a", messages=history, max_tokens=4, **tools).choices


@pytest.mark.parametrize(
    ("response_format", "word"),
    [
        ({"type": "regex", "pattern": "("}, "unclosed group"),
        ({"type": "regex"}, ""),
        ({"type": "grammar", "grammar": "start: nothing"}, ""),
        ({"type": "json_schema"}, "json_schema"),
        ({"type": "json_schema", "json_schema": {"schema": {"type": "chữ"}}}, ""),
        (
            {"type": "json_schema", "json_schema": {"schema": {"not": {"type": "string"}}, "strict": True}},
            "not",
        ),
    ],
)
def test_invalid_formats_name_the_field(client: openai.OpenAI, response_format: Any, word: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, response_format)
    assert (
        caught.value.status_code == 400
        and word in caught.value.message
        and (caught.value.param or "").startswith("response_format")
    )


def test_an_invalid_schema_and_invalid_tools(client: openai.OpenAI) -> None:
    function: Any = {
        "name": "weather",
        "strict": True,
        "parameters": {"type": "object", "properties": {"x": {"type": "chữ"}}},
    }
    tools: Any = [{"type": "function", "function": function}]
    requests: list[tuple[dict[str, Any], str]] = [
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "chữ"}}}},
            "response_format.json_schema.schema",
        ),
        ({"tools": tools}, "tools[0].function.parameters"),
        ({"tools": tools, "tool_choice": "required"}, "tools[0].function.parameters"),
        ({"tools": [TOOLS[0], TOOLS[0]]}, "tools[1]"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice"),
    ]
    for request, param in requests:
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(model="a", messages=MESSAGES, **request)
        assert (caught.value.status_code, caught.value.param) == (400, param)
