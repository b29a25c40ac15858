"""Server-sent events (WHATWG HTML, 9.2) in OpenAI's format: `data: {json}`, then `data: [DONE]`."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from binhdan.runtime.errors import BinhdanError
from binhdan.runtime.server.errors import ApiError
from binhdan.runtime.server.http.dialects import error_body
from binhdan.runtime.server.http.errors import as_api_error

# Batches of events, each sent with one write: JSON objects, or events that are already encoded.
Frames = AsyncIterator[list[dict[str, Any] | bytes]]

_KEEP_ALIVE_SECONDS = 15.0  # without an event for so long, send a comment: proxies close silent connections
_WRITE_SECONDS = 60.0  # a client that reads nothing for so long is treated as gone
_DONE = b"data: [DONE]\n\n"
_COMMENT = b": keep-alive\n\n"
_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_MARK = "\0"


def frame(value: Any, event: str | None = None) -> bytes:
    """One event, encoded. `event` is its name."""
    data = _JSON.encode(value).encode("utf-8", "replace")
    name = b"event: " + event.encode() + b"\n" if event else b""
    return name + b"data: " + data + b"\n\n"


class TextFrames:
    """Encodes events that differ only in one text. `make` builds the object from the text; everything else in
    it is encoded once, by the constructor."""

    def __init__(self, make: Callable[[str], dict[str, Any]]) -> None:
        mark = _JSON.encode(_MARK).encode()
        self._head, _, self._tail = frame(make(_MARK)).partition(mark)

    def __call__(self, text: str) -> bytes:
        return self._head + _JSON.encode(text).encode("utf-8", "replace") + self._tail


class EventStream(Response):
    """Sends events until they end or the client disconnects, then closes `stack`, which cancels the request.

    With `named`, the "type" of an object is also the name of its event, as in /v1/responses, and the stream
    ends without [DONE], as it does without `done`. With `lines`, it sends lines of JSON instead of events, as
    Ollama does, and no comments.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        frames: Frames,
        stack: AsyncExitStack,
        *,
        named: bool = False,
        lines: bool = False,
        done: bool = True,
    ) -> None:
        super().__init__(
            headers={"cache-control": "no-cache", "x-accel-buffering": "no"},
            media_type="application/x-ndjson" if lines else None,
        )
        del self.headers["content-length"]  # Response sets it; the length of a stream is unknown
        self._frames = frames
        self._stack = stack
        self._named = named
        self._lines = lines
        self._end = _DONE if done and not named and not lines else b""
        self._last = time.monotonic()  # the end of the last write
        self._sending = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._stack:
            request_id = scope.get("state", {}).get("request_id", "")
            sender = asyncio.create_task(self._send_all(send, request_id, scope["path"]))
            watcher = asyncio.create_task(_disconnected(receive))
            try:
                while not sender.done() and not watcher.done():
                    await asyncio.wait(
                        (sender, watcher), timeout=_KEEP_ALIVE_SECONDS, return_when=asyncio.FIRST_COMPLETED
                    )
                    silent = time.monotonic() - self._last
                    if self._sending and silent > _WRITE_SECONDS:
                        break
                    pings = not self._lines and silent >= _KEEP_ALIVE_SECONDS
                    if pings and not self._sending and not sender.done():
                        await self._send(send, _COMMENT)
            finally:
                for task in (sender, watcher):
                    task.cancel()
                await asyncio.gather(sender, watcher, return_exceptions=True)

    async def _send_all(self, send: Send, request_id: str, path: str) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        try:
            async for values in self._frames:
                await self._send(send, b"".join(map(self._encode, values)))
        except (ApiError, BinhdanError) as error:  # the status has been sent: the error becomes an event
            body = error_body(as_api_error(error, request_id), path, request_id)
            await self._send(send, self._encode(body))
        await send({"type": "http.response.body", "body": self._end})

    async def _send(self, send: Send, body: bytes) -> None:
        self._sending = True
        await send({"type": "http.response.body", "body": body, "more_body": True})
        self._sending = False
        self._last = time.monotonic()

    def _encode(self, value: dict[str, Any] | bytes) -> bytes:
        if isinstance(value, bytes):
            return value
        if self._lines:
            return _JSON.encode(value).encode("utf-8", "replace") + b"\n"
        return frame(value, value.get("type", "error") if self._named else None)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
