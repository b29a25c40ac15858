"""bench/load/{chat_client,prompts,generator}.py: figures match the times of a scripted server."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sse_app import Script, make_app
from uvicorn_thread import running

import binhdan
from binhdan.bench.common.arrivals import Closed, Open
from binhdan.bench.load.chat_client import TIMED_OUT, Call, ChatClient, Reply, chat_body, events
from binhdan.bench.load.generator import run_load, summarize
from binhdan.bench.load.http_client import Response
from binhdan.bench.load.prompts import WORDS, Sizes, calibrate

SIZES = Sizes(system=40, question=10, answer=8)


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def url(script: Script) -> Iterator[str]:
    with running(make_app(script)) as base:
        yield base


def body(tokens: int = 5, model: str = "scripted", **more: object) -> bytes:
    return chat_body(model, [{"role": "user", "content": "xin chào"}], tokens, **more)


# ---- events ------------------------------------------------------------------------------------------------


def test_events_end_with_an_empty_line() -> None:
    pieces = [
        (1.0, b"data: a\n"),
        (2.0, b"\nevent: x\r\ndata:b\r\ndata: c\r\n\r"),
        (3.0, b"\n: d\n\ndata: e\n"),
    ]
    assert list(events(pieces)) == [(2.0, b"a"), (3.0, b"b\nc")]


@given(cuts=st.lists(st.integers(0, 60), max_size=8))
def test_split_positions_do_not_change_the_events(cuts: list[int]) -> None:
    data = 'data: một\n\n: x\n\ndata: {"a": 1}\r\n\r\ndata: ba\n\n'.encode()
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [(0.0, data[begin:end]) for begin, end in pairwise(edges)]
    assert [one for _, one in events(pieces)] == ["một".encode(), b'{"a": 1}', b"ba"]


@given(st.binary(max_size=200))
def test_any_bytes_of_a_stream_are_a_reply(data: bytes) -> None:
    response = Response()
    response.feed(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: " + data, 0.0)
    response.feed_end(1.0)
    assert Call(0.0, response, None, 1.0).reply().error is not None


@pytest.mark.parametrize(
    "chunk",
    [
        "[]",
        "1",
        '"x"',
        '{"choices":[1]}',
        '{"choices":{"a":1}}',
        '{"choices":[{"delta":[1]}]}',
        '{"choices":[{"delta":{"content":5}}]}',
        '{"usage":[1],"choices":[{"finish_reason":"stop"}]}',
        "[" * 100_000,
    ],
)
def test_chunks_of_the_wrong_shape(chunk: str) -> None:
    response = Response()
    response.feed(
        f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: {chunk}\n\n".encode(), 0.0
    )
    response.feed_end(1.0)
    reply = Call(0.0, response, None, 1.0).reply()
    assert reply.error is not None or reply.prompt_tokens is None


# ---- one answer --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("separator", ["\n", "\r\n"])
async def test_an_answer_and_its_times(url: str, script: Script, separator: str) -> None:
    script.separator = separator
    async with ChatClient(url) as client:
        before = time.perf_counter()
        reply = (await client.chat(body(6))).reply()
        took = time.perf_counter() - before
    assert reply.error is None and reply.status == 200 and reply.finish_reason == "length"
    assert reply.text == "từ0 từ1 từ2 từ3 từ4 từ5 " and len(reply.times) == 6
    assert (reply.prompt_tokens, reply.cached_tokens, reply.answer_tokens) == (14, 7, 6)
    assert reply.binhdan == {"decode_ms": 12.5}
    assert reply.ttft is not None and reply.tpot is not None
    # A delayed client sees tokens closer together than they were sent, but never earlier. Timers of the event
    # loop may fire a millisecond early.
    assert 0.045 <= reply.ttft <= reply.seconds <= took and reply.seconds >= 0.09
    assert reply.tpot == pytest.approx((reply.ended - reply.times[0]) / 5)
    sent = script.bodies[0]
    assert (
        sent["ignore_eos"] and sent["temperature"] == 0 and sent["stream_options"] == {"include_usage": True}
    )


async def test_an_answer_that_is_not_streamed(url: str) -> None:
    async with ChatClient(f"{url}/v1/") as client:
        reply = (await client.chat(body(2, stream=False))).reply()
    assert reply.error is None and reply.text == "một hai" and reply.answer_tokens == 2
    assert reply.tpot is None and reply.ttft is None


async def test_a_delay_within_the_client_counts(url: str, script: Script) -> None:
    async with ChatClient(url) as client:
        reply = (await client.chat(body(2), time.perf_counter() - 10)).reply()
    assert reply.ttft is not None and reply.ttft > 10 and reply.seconds >= reply.ttft


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"status": 429}, "status 429: no luck"),
        ({"break_after": 2}, "within a response"),
        ({"error_after": 2}, "engine lost"),
    ],
)
async def test_failures_are_reported(url: str, script: Script, changes: dict[str, int], message: str) -> None:
    for name, value in changes.items():
        setattr(script, name, value)
    async with ChatClient(url) as client:
        reply = (await client.chat(body())).reply()
    assert reply.error is not None and message in reply.error


async def test_an_answer_that_does_not_end(url: str, script: Script) -> None:
    script.first = 30
    async with ChatClient(url, seconds=0.1) as client:
        assert (await client.chat(body())).reply().error == TIMED_OUT


async def test_closing_the_connection_ends_the_answer_at_the_server(url: str, script: Script) -> None:
    async with ChatClient(url) as client:
        call = await client.call("/chat/completions", body(2000), stop_when=lambda got: len(got.pieces) > 3)
        assert call.response is not None and not call.response.finished
        assert call.reply().error is not None
        deadline = time.monotonic() + 10
        while script.running and time.monotonic() < deadline:
            await client.model()
    assert script.running == 0


# ---- prompts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokenizer", [True, False])
async def test_sizes_are_numbers_of_tokens(url: str, script: Script, tokenizer: bool) -> None:
    script.tokenizer = tokenizer  # without /tokenize: the difference of the usage of two prompts
    async with ChatClient(url) as client:
        chats = await calibrate(client, SIZES)
    assert chats.model == "scripted" and chats.tokens_per_word == pytest.approx(2, rel=0.01)
    system, question = json.loads(chats.body(3))["messages"]
    assert (len(system["content"].split()), len(question["content"].split())) == (20, 5)
    assert set(system["content"].split()) <= set(WORDS)


async def test_chats_share_the_system_prompt_and_differ_in_the_question(url: str) -> None:
    async with ChatClient(url) as client:
        one, same, other = [await calibrate(client, SIZES, seed=seed) for seed in (1, 1, 2)]
    messages = [json.loads(one.body(number))["messages"] for number in range(20)]
    assert len({system["content"] for system, _ in messages}) == 1
    assert len({question["content"] for _, question in messages}) == 20
    assert one.body(7) == same.body(7) != other.body(7)
    assert json.loads(one.body(0, system=1))["messages"][0] != messages[0][0]
    assert json.loads(one.for_model("x").body(0))["messages"] == messages[0]


async def test_no_system_prompt(url: str) -> None:
    async with ChatClient(url) as client:
        chats = await calibrate(client, Sizes(system=0))
    assert [message["role"] for message in json.loads(chats.body(0))["messages"]] == ["user"]


async def test_a_server_that_counts_no_tokens(url: str, script: Script) -> None:
    script.tokenizer = script.usage = False
    async with ChatClient(url) as client:
        with pytest.raises(binhdan.BinhdanError, match="returns no usage"):
            await calibrate(client, SIZES)
        with pytest.raises(binhdan.InvalidArgumentError, match="expected at least"):
            await calibrate(client, Sizes(answer=0))


# ---- loads -------------------------------------------------------------------------------------------------


async def test_closed_loop(url: str, script: Script) -> None:
    script.first = script.token = 0.02
    progress = []
    async with ChatClient(url) as client:
        chats = await calibrate(client, SIZES)
        before = time.perf_counter()
        load = await run_load(client, chats, Closed(users=4, requests=3), progress=lambda: progress.append(1))
        took = time.perf_counter() - before
    assert script.max_running == 4 and len(progress) == load.answers == 12 and len(script.bodies) == 13
    questions = [one["messages"][1]["content"] for one in script.bodies]
    assert len(set(questions)) == 13  # including the warm-up
    assert load.failures == {} and load.short_answers == 0
    assert 3 * 8 * 0.018 <= load.seconds <= took
    assert load.tokens_per_s == pytest.approx(12 * 8 / load.seconds)
    assert load.requests_per_min == pytest.approx(60 * 12 / load.seconds)
    assert load.ttft_s and load.tpot_s and load.end_to_end_s
    assert 0.018 <= load.ttft_s.p50 <= load.ttft_s.p95 <= load.ttft_s.p99
    assert 0 < load.tpot_s.p50 < load.end_to_end_s.p50 and 8 * 0.018 <= load.end_to_end_s.p50 <= load.seconds
    assert (load.prompt_tokens, load.cached_tokens, load.answer_tokens) == (60, 7, 8)
    assert 0 < load.client_cpu_s <= took


async def test_open_loop_does_not_wait_for_answers(url: str, script: Script) -> None:
    script.first, arrivals = 0.3, Open(rate=200, requests=20, seed=5)
    async with ChatClient(url) as client:
        load = await run_load(client, await calibrate(client, SIZES), arrivals, warm_up=0)
    assert load.answers == 20 and script.max_running > 5
    assert load.ttft_s is not None and load.ttft_s.p50 >= 0.29
    assert load.seconds >= arrivals.times()[-1] - arrivals.times()[0] + 0.29


async def test_failures_and_short_answers_are_counted(url: str, script: Script) -> None:
    async with ChatClient(url) as client:
        chats = await calibrate(client, SIZES)
        script.error_after = 3
        with pytest.raises(binhdan.BinhdanError, match="engine lost"):
            await run_load(client, chats, Closed(users=1, requests=1))
        load = await run_load(client, chats, Closed(users=2, requests=2), warm_up=0)
    assert load.answers == 0 and sum(load.failures.values()) == 4
    assert load.ttft_s is None and load.tokens_per_s == 0 and load.prompt_tokens is None


def reply(first: float, token: float, tokens: int, **changes: object) -> Reply:
    times = tuple(100 + first + token * number for number in range(tokens))
    fields = {"due": 100.0, "ended": times[-1] + 0.5 if times else 100.5, "status": 200, "times": times}
    return Reply(**fields | changes)  # type: ignore[arg-type]


def test_exact_figures_of_a_summary() -> None:
    replies = [
        reply(1.0, 0.1, 5, answer_tokens=5, prompt_tokens=10),
        reply(2.0, 0.2, 4, answer_tokens=5, prompt_tokens=12),  # two tokens arrived as one text
        reply(3.0, 0.3, 3),  # without usage: the number of events
        reply(0.0, 0.0, 0, answer_tokens=1),  # no text
        reply(9.0, 9.0, 9, error="lost"),
    ]
    load = summarize(replies, Closed(users=1, requests=5), Sizes(answer=5), 2.0, 0.25)
    assert load.answers == 4 and load.failures == {"lost": 1} and load.short_answers == 2
    assert load.tokens_per_s == (5 + 5 + 3 + 1) / 2 and load.requests_per_min == 120
    assert load.ttft_s is not None and load.tpot_s is not None
    assert load.ttft_s.p50 == pytest.approx(1.5)  # of 0.5, 1, 2 and 3
    assert load.tpot_s.p50 == pytest.approx(0.275)  # of 0.9 / 4, 1.1 / 4 and 1.1 / 2
    assert load.prompt_tokens == 11 and load.cached_tokens is None and load.client_cpu_s == 0.25
