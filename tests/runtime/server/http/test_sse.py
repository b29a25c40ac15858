"""runtime/server/http/sse.py: events, and errors inside a stream."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import pytest
from starlette.types import Message

from binhdan.runtime import errors
from binhdan.runtime.server.http import sse
from binhdan.runtime.server.http.sse import EventStream, Frames


async def body_of(frames: Frames) -> str:
    """The body of a stream, whose request has the id req_1."""
    sent: list[Message] = []

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    scope: dict[str, Any] = {"type": "http", "path": "/v1/chat/completions", "state": {"request_id": "req_1"}}
    await EventStream(frames, AsyncExitStack())(scope, receive, send)
    return b"".join(message.get("body", b"") for message in sent).decode()


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (errors.ClosedError("closing"), "unloaded", "try again"),
        (errors.InternalError("/a/path"), "internal_error", "under the request id req_1"),
    ],
)
async def test_an_error_inside_a_stream_is_an_event(error: Exception, code: str, message: str) -> None:
    async def frames() -> Frames:
        yield [{"n": 1}]
        raise error

    first, second, *rest = (await body_of(frames())).split("\n\n")
    assert first == 'data: {"n":1}' and rest == ["data: [DONE]", ""]
    found = json.loads(second.removeprefix("data: "))["error"]
    assert found["code"] == code and message in found["message"] and "/a/path" not in found["message"]


async def test_a_silent_stream_has_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "_KEEP_ALIVE_SECONDS", 0.01)

    async def frames() -> Frames:
        await asyncio.sleep(0.2)
        yield [{"n": 1}]

    lines = (await body_of(frames())).split("\n\n")
    assert lines[0] == ": keep-alive" and lines[-3:] == ['data: {"n":1}', "data: [DONE]", ""]
