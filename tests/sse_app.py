"""A server with OpenAI's API and scripted answers and timing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse


@dataclass
class Script:
    """The behaviour of the server, and a record of its requests."""

    first: float = 0.05  # TTFT, seconds
    token: float = 0.01  # ITL, seconds
    separator: str = "\n"  # the line ending
    usage: bool = True
    markup: int = 10  # prompt tokens of the chat template
    tokenizer: bool = True
    break_after: int | None = None  # break the connection after so many tokens
    error_after: int | None = None  # send an error event after so many tokens
    status: int = 200
    bodies: list[dict[str, Any]] = field(default_factory=list)
    running: int = 0
    max_running: int = 0


def make_app(script: Script) -> FastAPI:
    app = FastAPI()

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"data": [{"id": "scripted"}]}

    @app.post("/tokenize")
    async def tokenize(request: Request) -> Response:
        if not script.tokenizer:
            return Response(status_code=404)
        text = (await request.json())["content"]
        return JSONResponse({"tokens": [0] * 2 * len(text.split())})

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        body = await request.json()
        script.bodies.append(body)
        if script.status != 200:
            return JSONResponse({"error": {"message": "no luck"}}, script.status)
        if body["model"] != "scripted":
            return JSONResponse({"error": {"message": "no such model"}}, 404)
        words = sum(len(message["content"].split()) for message in body["messages"])
        usage = {
            "prompt_tokens": script.markup + 2 * words,
            "completion_tokens": body["max_tokens"],
            "prompt_tokens_details": {"cached_tokens": 7},
            "binhdan": {"decode_ms": 12.5},
        }
        if not body.get("stream"):
            choice = {"message": {"content": "một hai"}, "finish_reason": "length"}
            return JSONResponse({"choices": [choice], "usage": usage})
        return StreamingResponse(stream(body["max_tokens"], usage), media_type="text/event-stream")

    def event(value: object) -> str:
        text = value if isinstance(value, str) else json.dumps(value)
        return f": remark{script.separator}data: {text}{script.separator * 2}"

    async def stream(tokens: int, usage: dict[str, Any]) -> AsyncIterator[str]:
        script.running += 1
        script.max_running = max(script.max_running, script.running)
        try:
            yield event({"choices": [{"delta": {"role": "assistant", "content": ""}}]})
            for number in range(tokens):
                await asyncio.sleep(script.token if number else script.first)
                if number == script.break_after:
                    raise ConnectionError("scripted by the test")
                if number == script.error_after:
                    yield event({"error": {"message": "engine lost"}})
                    return
                yield event({"choices": [{"delta": {"content": f"từ{number} "}}]})
            yield event({"choices": [{"delta": {}, "finish_reason": "length"}]})
            if script.usage:
                yield event({"choices": [], "usage": usage})
            yield event("[DONE]")
        finally:
            script.running -= 1

    return app
