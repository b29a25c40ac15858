"""A chat server with scripted replies, valid or faulty, that serves the real chat page."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from binhdan.runtime.server.api import page

CUT = "cut"  # a step: the connection breaks
DONE = b"data: [DONE]\n\n"

# Bytes to send, seconds to wait, or CUT.
Step = bytes | float | str


@dataclass
class Reply:
    """An event stream, or with another `status` than 200, an error."""

    steps: list[Step] = field(default_factory=list)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    error: dict[str, Any] | None = None


def event(value: dict[str, Any]) -> bytes:
    """Returns a server-sent event."""
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def chunk(content: str | None = None, *, reasoning: str | None = None, finish: str | None = None) -> bytes:
    """Returns a chunk of a streamed answer."""
    delta = {"content": content, "reasoning_content": reasoning}
    return event({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


def usage(tokens: int = 3, **bill: Any) -> bytes:
    """Returns the last chunk. `bill` becomes usage.binhdan."""
    counts = {"prompt_tokens": 20, "completion_tokens": tokens, "total_tokens": 20 + tokens}
    return event({"choices": [], "usage": counts | ({"binhdan": bill} if bill else {})})


def complete(text: str, **bill: Any) -> Reply:
    """Returns a valid answer."""
    return Reply([chunk(text), chunk(finish="stop"), usage(**bill), DONE])


class ScriptedChat:
    """`app` answers each request with the next of `replies`; `bodies` are the received requests."""

    def __init__(self) -> None:
        self.replies: deque[Reply] = deque()
        self.bodies: list[dict[str, Any]] = []
        self.disconnects = 0  # answers that the client cancelled
        self.app = FastAPI()
        self.app.include_router(page.router)
        self.app.get("/v1/models")(self._models)
        self.app.post("/v1/chat/completions")(self._chat)

    async def _models(self) -> dict[str, Any]:
        return {"object": "list", "data": [{"id": name, "object": "model"} for name in ("một", "hai")]}

    async def _chat(self, request: Request) -> Response:
        self.bodies.append(await request.json())
        reply = self.replies.popleft()
        if reply.status != 200:
            return JSONResponse({"error": reply.error}, reply.status, reply.headers)
        return StreamingResponse(self._stream(reply.steps), media_type="text/event-stream")

    async def _stream(self, steps: list[Step]) -> AsyncIterator[bytes]:
        try:
            for step in steps:
                if step == CUT:
                    raise ConnectionResetError
                if isinstance(step, bytes):
                    yield step
                else:
                    await asyncio.sleep(float(step))
        except asyncio.CancelledError:
            self.disconnects += 1
            raise
