"""/v1/chat/completions through the official client, sync and async, against a real server."""

from __future__ import annotations

import asyncio
import json
import time
import unicodedata
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import openai
import pytest
from serving import ANSWER, QUESTION, serving

from binhdan.runtime.server.http import fields

MESSAGES: Any = [{"role": "user", "content": QUESTION}]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(models={"tí-hon": None}, context=1024) as url:
        yield url


@pytest.fixture
async def async_client(url: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_an_answer(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="tí-hon", messages=MESSAGES)
    choice = answer.choices[0]
    assert (choice.message.content, choice.message.role, choice.finish_reason) == (
        ANSWER,
        "assistant",
        "stop",
    )
    assert answer.id.startswith("chatcmpl-") and answer.model == "tí-hon" and answer.created > 1_700_000_000
    assert answer.usage is not None and answer.usage.prompt_tokens > 10 and answer.usage.completion_tokens > 5
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    bill = answer.usage.model_extra["binhdan"]
    assert bill["prompt_ms"] > 0 and bill["decode_ms"] > 0 and "joules" in bill and "cost_vnd" in bill


def test_a_stream_is_the_same_answer(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="tí-hon", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == ANSWER
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == [
        "stop"
    ]
    assert len(chunks) > 5, "expected several pieces"
    assert not chunks[-1].choices and chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 5


async def test_concurrent_requests_have_the_same_answer_as_one(async_client: openai.AsyncOpenAI) -> None:
    async def ask(stream: bool) -> str:
        if not stream:
            answer = await async_client.chat.completions.create(model="tí-hon", messages=MESSAGES)
            return answer.choices[0].message.content or ""
        text = ""
        async for chunk in await async_client.chat.completions.create(
            model="tí-hon", messages=MESSAGES, stream=True
        ):
            text += chunk.choices[0].delta.content or ""
        return text

    assert set(await asyncio.gather(*(ask(i % 2 == 0) for i in range(12)))) == {ANSWER}


def test_n_and_seeds(client: openai.OpenAI) -> None:
    def draw(seed: int) -> list[str | None]:
        answer = client.chat.completions.create(
            model="tí-hon",
            messages=[{"role": "user", "content": "kể chuyện"}],
            n=3,
            seed=seed,
            temperature=1.5,
            max_tokens=12,
        )
        assert [choice.index for choice in answer.choices] == [0, 1, 2]
        return [choice.message.content for choice in answer.choices]

    first = draw(7)
    assert len(set(first)) > 1, "the n answers of one seed are equal"
    assert draw(7) == first and draw(8) != first


def test_stop_length_and_bias(client: openai.OpenAI) -> None:
    def ask(**changes: Any) -> Any:
        return client.chat.completions.create(model="tí-hon", messages=MESSAGES, **changes).choices[0]

    stopped = ask(stop=["thủ đô"])
    assert (stopped.message.content, stopped.finish_reason) == ("hà nội là ", "stop")
    assert ask(max_tokens=3).finish_reason == "length" == ask(max_completion_tokens=3).finish_reason
    long = ask(max_tokens=64, extra_body={"ignore_eos": True})
    assert long.finish_reason == "length"


def test_logprobs(client: openai.OpenAI) -> None:
    choice = client.chat.completions.create(
        model="tí-hon", messages=MESSAGES, logprobs=True, top_logprobs=2, max_tokens=8
    ).choices[0]
    assert choice.logprobs is not None and choice.logprobs.content is not None
    assert len(choice.logprobs.content) == 8
    spelled = b"".join(bytes(token.bytes or []) for token in choice.logprobs.content).decode()
    assert spelled == choice.message.content
    for token in choice.logprobs.content:
        assert token.logprob <= 0 and len(token.top_logprobs) == 2
        assert token.logprob == token.top_logprobs[0].logprob, (
            "greedy decoding must choose the likeliest token"
        )


def test_usage_counts_cached_tokens(client: openai.OpenAI) -> None:
    messages: Any = [{"role": "system", "content": "Bạn là trợ lý của cửa hàng sách. " * 30}, *MESSAGES]

    def cached() -> int:
        usage = client.chat.completions.create(model="tí-hon", messages=messages, max_tokens=2).usage
        assert usage is not None and usage.prompt_tokens_details is not None
        return usage.prompt_tokens_details.cached_tokens or 0

    assert cached() < 64 < 128 <= cached()


def test_content_parts_and_the_developer_role(client: openai.OpenAI) -> None:
    parts: Any = [
        {"role": "developer", "content": "Trả lời ngắn."},
        {
            "role": "user",
            "content": [{"type": "text", "text": QUESTION[:10]}, {"type": "text", "text": QUESTION[10:]}],
        },
    ]
    assert client.chat.completions.create(model="tí-hon", messages=parts).choices[0].message.content


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "chúa", "content": "a"}]}, "messages[0].role"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages[0].content",
        ),
        ({"temperature": -1}, "temperature"),
        ({"temprature": 1}, "temprature"),
        ({"n": 999}, "n"),
        ({"stop": [""]}, "stop"),
        ({"logit_bias": {"1": 101}}, "logit_bias"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"stream_options": {"include_usage": True}}, None),
        ({"max_tokens": 0}, "max_tokens"),
        ({"chat_template_kwargs": {"bos_token": 1, "eos_token": {"a": 1}, "messages": 3, "loop": []}}, None),
    ],
)
def test_errors_name_the_field(url: str, change: dict[str, Any], param: str | None) -> None:
    answer = httpx.post(f"{url}/v1/chat/completions", json={"model": "tí-hon", "messages": MESSAGES} | change)
    error = answer.json()["error"]
    assert answer.status_code == 400 and error["type"] == "invalid_request_error" and error["message"]
    if param is not None:
        assert (error["param"] or "").startswith(param)


def test_messages_sent_back_unchanged(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="tí-hon", messages=MESSAGES).choices[0].message
    history: Any = [*MESSAGES, answer.model_dump(), {"role": "assistant", "content": None}, *MESSAGES]
    assert client.chat.completions.create(model="tí-hon", messages=history, max_tokens=3).choices


def test_a_prompt_that_is_too_long(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="tí-hon", messages=[{"role": "user", "content": "dài " * 5000}])
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "messages")


def test_an_unknown_model(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-99", messages=MESSAGES)
    assert caught.value.code == "model_not_found"
    assert "expected one of tí-hon, got 'gpt-99'" in caught.value.message


def test_unknown_fields_of_a_message_are_ignored(url: str) -> None:
    call = {"id": "a", "function": {"name": "f", "arguments": {}, "parsed_arguments": {}}, "index": 0}
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "không"}], "parsed": {"a": 1}},
        {"role": "assistant", "id": "m", "tool_calls": [call], "audio": {"id": "b"}},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
    ]
    response = httpx.post(f"{url}/v1/chat/completions", json={"messages": messages, "max_tokens": 2})
    assert response.status_code == 200 and fields.HEADER not in response.headers, response.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([{"type": "image_url", "image_url": {"url": "x"}}], "content[0]: images are not supported"),
        ([{"type": "text", "text": "x"}, {"type": "input_audio"}], "content[1]: sounds are not supported"),
        ([{"type": "text", "txt": "x"}], "content[0].text: Field required"),
    ],
)
def test_errors_of_parts_name_the_fault(url: str, content: Any, message: str) -> None:
    body = {"messages": [{"role": "user", "content": content}]}
    answer = httpx.post(f"{url}/v1/chat/completions", json=body)
    assert answer.status_code == 400 and answer.json()["error"]["message"].startswith(
        f"messages[0].{message}"
    )


@pytest.mark.parametrize(
    "change",
    [
        dict.fromkeys(
            ("temperature", "top_p", "max_tokens", "stop", "seed", "tools", "tool_choice", "response_format"),
        ),
        {"top_p": 1, "top_k": -1, "max_tokens": -1, "seed": -1, "stop": [], "tools": []},
        {"top_p": 0, "top_k": 0, "n_predict": -1, "stop": "", "tool_choice": "required"},
        {"stream_options": None, "logprobs": None, "n": None, "cache_salt": "a", "min_p": 0.0, "n_probs": 0},
        {"skip_special_tokens": True, "min_tokens": 0, "stop_token_ids": [], "grammar": ""},
        {"truncate_prompt_tokens": 10_000, "add_generation_prompt": True, "continue_final_message": False},
        {"truncate_prompt_tokens": -1, "include_stop_str_in_output": False, "timings_per_token": False},
        {"typical_p": 1.0, "priority": 0, "mirostat": 0, "xtc_probability": 0.0, "use_beam_search": False},
    ],
)
def test_neutral_values(url: str, change: dict[str, Any]) -> None:
    response = httpx.post(f"{url}/v1/chat/completions", json={"messages": MESSAGES} | change)
    assert response.status_code == 200, response.text
    assert response.json()["choices"][0]["message"]["content"] == ANSWER
    assert fields.HEADER not in response.headers


def test_ignored_fields_are_reported(url: str) -> None:
    extra = {"priority": 3, "typical_p": 0.5, "nhiệt": 1, "response_format": {"type": "text", "lớp": 1}}
    response = httpx.post(f"{url}/v1/chat/completions", json={"messages": MESSAGES} | extra)
    assert response.status_code == 200, response.text
    names = set(response.headers[fields.HEADER].split(", "))
    assert names == {"priority", "typical_p", "nhi%E1%BB%87t", "response_format.l%E1%BB%9Bp"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("structured_outputs", {"choice": ["bò", "gà mái"]}),
        ("guided_choice", ["bò", "gà mái"]),
        ("guided_regex", "bò|gà mái"),
        ("guided_grammar", 'root ::= "bò" | "gà mái"'),
        ("grammar", 'root ::= "bò" | "gà mái"'),
        ("guided_json", '{"enum": ["bò", "gà mái"]}'),
        ("json_schema", {"enum": ["bò", "gà mái"]}),
        ("response_format", {"type": "json_object", "schema": {"enum": ["bò", "gà mái"]}}),
    ],
)
def test_forms_of_other_servers(url: str, field: str, value: Any) -> None:
    body = {"messages": MESSAGES, field: value}
    response = httpx.post(f"{url}/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text
    assert response.json()["choices"][0]["message"]["content"].strip('"') in ("bò", "gà mái")
    assert fields.HEADER not in response.headers


def choice_of(url: str, **changes: Any) -> dict[str, Any]:
    response = httpx.post(f"{url}/v1/chat/completions", json={"messages": MESSAGES} | changes, timeout=60)
    assert response.status_code == 200 and fields.HEADER not in response.headers, response.text
    choice: dict[str, Any] = response.json()["choices"][0]
    return choice


def tokens_of(url: str, text: str) -> list[int]:
    tokens: list[int] = httpx.post(f"{url}/tokenize", json={"content": text}).json()["tokens"]
    return tokens


def test_stop_tokens(url: str) -> None:
    *_, stop = tokens_of(url, "hà nội là thủ đô")
    choice = choice_of(url, stop_token_ids=[stop])
    assert (choice["message"]["content"], choice["finish_reason"]) == ("hà nội là thủ", "stop")
    assert choice["stop_reason"] == stop
    choice = choice_of(url, stop_token_ids=[stop], include_stop_str_in_output=True)
    assert choice["message"]["content"] == "hà nội là thủ đô"
    assert choice_of(url)["stop_reason"] is None
    body = {"messages": MESSAGES, "stop_token_ids": [10**8]}
    error = httpx.post(f"{url}/v1/chat/completions", json=body).json()["error"]
    assert "stop_tokens: expected tokens 0 to" in error["message"]


@pytest.mark.parametrize("stream", [False, True])
def test_the_stop_text_in_the_answer(url: str, stream: bool) -> None:
    body = {"messages": MESSAGES, "stop": ["đô"], "include_stop_str_in_output": True, "stream": stream}
    text = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).text
    lines = text.split("\n\n")[:-2] if stream else [text]
    choices = [json.loads(line.removeprefix("data: "))["choices"][0] for line in lines]
    parts = [(one.get("delta") or one["message" if not stream else "delta"]) for one in choices]
    assert "".join(part.get("content") or "" for part in parts) == "hà nội là thủ đô"
    assert choices[-1]["stop_reason"] == "đô" and choices[-1]["finish_reason"] == "stop"


def test_min_tokens(url: str) -> None:
    length = len(tokens_of(url, ANSWER))
    body = {"messages": MESSAGES, "min_tokens": length + 8, "max_tokens": length + 8}
    answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).json()
    assert answer["usage"]["completion_tokens"] == length + 8
    assert answer["choices"][0]["message"]["content"].startswith(ANSWER)
    # Before min_tokens a stop text has no effect.
    assert choice_of(url, stop=["nội", "việt"], min_tokens=3)["message"]["content"] == ANSWER[:21]
    error = httpx.post(f"{url}/v1/chat/completions", json=body | {"max_tokens": 3}).json()["error"]
    assert error["param"] == "min_tokens"


def test_prompt_logprobs(url: str) -> None:
    body = {"messages": MESSAGES, "max_tokens": 1, "prompt_logprobs": 2}
    answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).json()
    first, *rest = answer["prompt_logprobs"]
    assert first is None and len(rest) == answer["usage"]["prompt_tokens"] - 1
    for tokens in rest:
        assert 2 <= len(tokens) <= 3 and {1, 2} <= {one["rank"] for one in tokens.values()}
        own, best = next(iter(tokens.values())), max(one["logprob"] for one in tokens.values())
        assert own["logprob"] <= best <= 0 and own["decoded_token"] != ""
    error = httpx.post(f"{url}/v1/chat/completions", json=body | {"stream": True}).json()["error"]
    assert error["param"] == "stream"


def test_timings(url: str) -> None:
    body = {"messages": MESSAGES, "max_tokens": 4}
    answer = httpx.post(f"{url}/v1/chat/completions", json=body).json()
    timings = answer["timings"]
    assert timings["predicted_n"] == 4 and timings["prompt_ms"] > 0
    assert timings["prompt_n"] + timings["cache_n"] == answer["usage"]["prompt_tokens"]
    for per_token in (False, True):
        options = {"stream": True, "timings_per_token": per_token, "stream_options": {"include_usage": True}}
        text = httpx.post(f"{url}/v1/chat/completions", json=body | options).text
        chunks = [json.loads(line.removeprefix("data: ")) for line in text.split("\n\n")[:-2]]
        timed = ["timings" in chunk for chunk in chunks]
        assert not timed[0] and timed[-2:] == [True, True] and all(timed[1:]) == per_token
        assert chunks[-1]["timings"]["predicted_n"] == 4 and not chunks[-1]["choices"]


def test_two_forms(url: str) -> None:
    body = {"messages": MESSAGES, "guided_regex": "a", "grammar": 'root ::= "a"'}
    error = httpx.post(f"{url}/v1/chat/completions", json=body).json()["error"]
    assert "guided_regex and grammar" in error["message"]


def test_the_answer_continues_the_final_message(url: str) -> None:
    body = {
        "messages": [*MESSAGES, {"role": "assistant", "content": ANSWER[:6]}],
        "continue_final_message": True,
    }
    answer = httpx.post(f"{url}/v1/chat/completions", json=body).json()
    assert answer["choices"][0]["message"]["content"] == ANSWER[6:]
    error = httpx.post(f"{url}/v1/chat/completions", json=body | {"messages": MESSAGES}).json()["error"]
    assert error["param"] == "continue_final_message"


def test_stops_are_brought_to_nfc(client: openai.OpenAI) -> None:
    stop = unicodedata.normalize("NFD", "thủ đô")
    choice = client.chat.completions.create(model="tí-hon", messages=MESSAGES, stop=stop).choices[0]
    assert choice.message.content == "hà nội là "


def test_an_answer_ends_with_a_whole_character(client: openai.OpenAI) -> None:
    for max_tokens in range(1, 20):
        grammar = {"extra_body": {"guided_choice": ["漢字🦙 한국"]}}
        choice = client.chat.completions.create(
            model="tí-hon", messages=MESSAGES, max_tokens=max_tokens, **grammar
        ).choices[0]
        assert "漢字🦙 한국".startswith(choice.message.content or "")


def test_a_disconnect_ends_the_request(url: str) -> None:
    def running() -> int:
        metrics = httpx.get(f"{url}/metrics").text
        return sum(
            int(float(line.split()[-1]))
            for line in metrics.splitlines()
            if line.startswith("binhdan_requests_running{")
        )

    def await_running(wanted: int) -> bool:
        deadline = time.monotonic() + 30
        while running() != wanted and time.monotonic() < deadline:
            time.sleep(0.005)
        return running() == wanted

    body = {"model": "tí-hon", "messages": MESSAGES, "max_tokens": 900, "ignore_eos": True}

    def disconnects_during_a_stream() -> bool:
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=body | {"stream": True}) as answer:
            pieces = answer.iter_bytes()  # a reference keeps the connection open
            next(pieces)
            return running() == 1

    def disconnects_before_the_response() -> bool:
        try:
            httpx.post(f"{url}/v1/chat/completions", json=body, timeout=httpx.Timeout(10, read=0.05))
        except httpx.ReadTimeout:
            return True
        return False

    for disconnects in (disconnects_during_a_stream, disconnects_before_the_response):
        # Retries, because an answer can end before a slow client disconnects.
        assert any(disconnects() for _ in range(20))
        assert await_running(0), "the engine still runs the request"


PLACE: Any = {
    "name": "place",
    "parameters": {
        "type": "object",
        "properties": {"city": {"enum": ["Hà Nội", "Huế"]}, "codes": {"type": "array", "maxItems": 2}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


def place_tool(**changes: Any) -> Any:
    return {"type": "function", "function": PLACE | {"parameters": PLACE["parameters"] | changes}}


def test_functions_of_the_older_api(client: openai.OpenAI) -> None:
    extra: Any = {"functions": [PLACE], "function_call": {"name": "place"}}
    choice = client.chat.completions.create(model="tí-hon", messages=MESSAGES, extra_body=extra).choices[0]
    call = choice.message.function_call
    assert choice.finish_reason == "function_call" and call is not None and call.name == "place"
    assert json.loads(call.arguments)["city"] in ("Hà Nội", "Huế")
    stream = client.chat.completions.create(model="tí-hon", messages=MESSAGES, extra_body=extra, stream=True)
    deltas = [chunk.choices[0].delta.function_call for chunk in stream]
    assert "".join(delta.arguments or "" for delta in deltas if delta) == call.arguments
    history: Any = [
        *MESSAGES,
        {"role": "assistant", "content": None, "function_call": call.model_dump()},
        {"role": "function", "name": "place", "content": "1"},
    ]
    assert client.chat.completions.create(model="tí-hon", messages=history, max_tokens=2).choices


def test_a_schema_that_cannot_be_enforced(url: str) -> None:
    body = {"messages": MESSAGES, "tool_choice": "required"}

    def ask(tool: Any) -> httpx.Response:
        return httpx.post(f"{url}/v1/chat/completions", json=body | {"tools": [tool]})

    loose = ask(place_tool(uniqueItems=True, properties={"city": {"type": "string", "pattern": "^(?=H)"}}))
    assert loose.status_code == 200, loose.text
    assert set(loose.headers[fields.HEADER].split(", ")) == {
        "tools[0].function.parameters.uniqueItems",
        "tools[0].function.parameters.properties.city.pattern",
    }
    strict = place_tool(uniqueItems=True)
    strict["function"]["strict"] = True
    error = ask(strict).json()["error"]
    assert error["param"] == "tools[0].function.parameters" and "uniqueItems" in error["message"]


def test_a_schema_that_nothing_satisfies_does_not_end_the_request(url: str) -> None:
    bad = place_tool(properties={"city": False})
    good = {"type": "function", "function": {"name": "time"}}
    body = {"messages": MESSAGES, "tools": [bad, good], "tool_choice": "required"}
    response = httpx.post(f"{url}/v1/chat/completions", json=body | {"max_tokens": 60})
    assert response.status_code == 200, response.text
    assert response.headers[fields.HEADER] == "tools[0].function.parameters"


def test_tools_and_a_form(url: str) -> None:
    schema = {"type": "object", "properties": {"số": {"enum": [1, 2]}}, "required": ["số"]}
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    body = {"messages": MESSAGES, "tools": [place_tool()], "response_format": form}
    message = httpx.post(f"{url}/v1/chat/completions", json=body).json()["choices"][0]["message"]
    assert message.get("tool_calls") or json.loads(message["content"])["số"] in (1, 2)
