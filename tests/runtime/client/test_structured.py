"""The form of an answer in ask, chat and complete: schemas, expressions, grammars, pydantic models, tools."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from typing import Any, Literal

import pydantic
import pytest

import binhdan


class Place(pydantic.BaseModel):
    name: Literal["Huế", "Hà Nội"]
    number: int = pydantic.Field(ge=1, le=9)


WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a place",
        "parameters": {
            "type": "object",
            "properties": {"place": {"enum": ["Huế", "Đà Nẵng"]}},
            "required": ["place"],
        },
    },
}


def test_a_schema(model: binhdan.Model) -> None:
    schema = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"]}
    answer = model.ask("xin chào", json_schema=schema)
    assert json.loads(answer.text)["a"] in (1, 2) and answer.finish_reason == "stop"
    assert isinstance(json.loads(model.complete("{", json_schema=True, max_tokens=400).text or "{}"), dict)


def test_an_expression_and_a_grammar(model: binhdan.Model) -> None:
    assert re.fullmatch("(có|không) [0-9]", model.ask("xin chào", regex="(có|không) [0-9]").text)
    assert model.complete("a", grammar='start: "có"').text == "có"
    assert model.complete("a", grammar='root ::= "có"').text == "có"


def test_a_pydantic_model(model: binhdan.Model) -> None:
    place = model.chat([{"role": "user", "content": "Huế"}], response_model=Place)
    assert isinstance(place, Place) and 1 <= place.number <= 9
    assert isinstance(model.ask("Huế", response_model=Place), Place)


async def test_the_async_methods(model: binhdan.Model) -> None:
    place = await model.aask("Huế", response_model=Place)
    assert isinstance(place, Place)
    text = "".join(
        [str(piece) async for piece in model.achat([{"role": "user", "content": "a"}], regex="ab")]
    )
    assert text == "ab"
    assert (await asyncio.create_task(model.acomplete("a", regex="ab"))).text == "ab"


def test_a_pydantic_model_gets_no_other_properties(model: binhdan.Model) -> None:
    class Inner(pydantic.BaseModel):
        properties: int = pydantic.Field(ge=1, le=2)

    class Outer(pydantic.BaseModel):
        inner: list[Inner] = pydantic.Field(min_length=1, max_length=1)

    assert isinstance(model.ask("Huế", response_model=Outer, max_tokens=60), Outer)


def test_an_answer_that_ends_early(model: binhdan.Model) -> None:
    with pytest.raises(binhdan.IncompleteAnswerError, match="raise max_tokens"):
        model.ask("Huế", response_model=Place, max_tokens=2)


def test_refused(model: binhdan.Model) -> None:
    with pytest.raises(binhdan.InvalidArgumentError, match="json_schema and regex"):
        model.ask("a", json_schema=True, regex="a")
    with pytest.raises(binhdan.InvalidArgumentError, match="stream=False"):
        model.ask("a", response_model=Place, stream=True)  # type: ignore[call-overload]
    with pytest.raises(binhdan.InvalidArgumentError, match="pydantic"):
        model.ask("a", response_model=int)
    with pytest.raises(binhdan.InvalidArgumentError, match="unclosed group"):
        model.ask("a", regex="(")


def test_without_llguidance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with binhdan.load(threads=1) as model, pytest.raises(binhdan.UnsupportedError, match="structured"):
        model.ask("a", json_schema=True)


# ---- tools -------------------------------------------------------------------------------------------------


def test_a_forced_call_and_its_result(model: binhdan.Model) -> None:
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Thời tiết Huế?"}]
    answer = model.chat(messages, tools=[WEATHER], tool_choice="required", parallel_tool_calls=False)
    (call,) = answer.tool_calls
    assert call.name == "weather" and call.arguments["place"] in ("Huế", "Đà Nẵng") and answer.text == ""

    messages += [answer.message(), {"role": "tool", "tool_call_id": call.id, "content": "nắng"}]
    assert model.chat(messages, max_tokens=8).tool_calls == ()
    assert model.chat(messages, tools=[WEATHER], tool_choice="none", max_tokens=8).tool_calls == ()


def test_streamed_calls_are_pieces(model: binhdan.Model) -> None:
    messages = [{"role": "user", "content": "Thời tiết Huế?"}]
    stream = model.chat(messages, stream=True, tools=[WEATHER], tool_choice="required")
    pieces = list(stream)
    calls = [piece.tool_call for piece in pieces if piece.kind == "tool_call"]
    assert calls and tuple(calls) == stream.answer().tool_calls
    assert "weather" not in "".join(map(str, pieces))


def test_a_cut_call_is_dropped(model: binhdan.Model) -> None:
    messages = [{"role": "user", "content": "Thời tiết Huế?"}]
    answer = model.chat(messages, tools=[WEATHER], tool_choice="required", max_tokens=12)
    assert answer.tool_calls == () and answer.finish_reason == "length"
