"""Server-sent events (WHATWG HTML, section 9.2) as OpenAI's API sends them: `data: {json}`, then `data: [DONE]`."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

from binhdan.runtime.errors import BinhdanError
from binhdan.runtime.server.errors import ApiError, as_api_error
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

# JSON objects to send together, as they come.
Frames = AsyncIterator[list[dict[str, Any]]]

_KEEP_ALIVE_SECONDS = 15.0  # a comment after so long without a frame: proxies close silent connections
_WRITE_SECONDS = 60.0  # a client that takes nothing for so long is gone
_DONE = b"data: [DONE]\n\n"
_COMMENT = b": still at work\n\n"


def frame(value: Any, event: str | None = None) -> bytes:
    """One event."""
    data = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    name = b"event: " + event.encode() + b"\n" if event else b""
    return name + b"data: " + data + b"\n\n"


class EventStream(Response):
    """Sends frames until they end or the client goes; then closes `stack`, which cancels what runs.

    Frames with a "type" are named events, as /v1/responses has them, and end without [DONE].
    """

    media_type = "text/event-stream"

    def __init__(self, frames: Frames, stack: AsyncExitStack, *, named: bool = False) -> None:
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._frames = frames
        self._stack = stack
        self._named = named
        self._last = time.monotonic()
        self._sending = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._stack:
            pump = asyncio.create_task(self._pump(send))
            watcher = asyncio.create_task(_gone(receive))
            try:
                while not pump.done() and not watcher.done():
                    await asyncio.wait(
                        (pump, watcher), timeout=_KEEP_ALIVE_SECONDS, return_when=asyncio.FIRST_COMPLETED
                    )
                    silent = time.monotonic() - self._last
                    if self._sending and silent > _WRITE_SECONDS:
                        break
                    if not self._sending and silent >= _KEEP_ALIVE_SECONDS and not pump.done():
                        await self._send(send, _COMMENT)
            finally:
                for task in (pump, watcher):
                    task.cancel()
                await asyncio.gather(pump, watcher, return_exceptions=True)

    async def _pump(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        try:
            async for values in self._frames:
                await self._send(send, b"".join(map(self._encode, values)))
        except (ApiError, BinhdanError) as error:  # too late for a status
            await self._send(send, self._encode(as_api_error(error).body))
        await send({"type": "http.response.body", "body": b"" if self._named else _DONE})

    async def _send(self, send: Send, body: bytes) -> None:
        self._sending = True
        await send({"type": "http.response.body", "body": body, "more_body": True})
        self._sending = False
        self._last = time.monotonic()

    def _encode(self, value: dict[str, Any]) -> bytes:
        return frame(value, value.get("type", "error") if self._named else None)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
