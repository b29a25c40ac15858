"""/tokenize and /detokenize, as in llama.cpp's server: exact, without normalization."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field

from binhdan.runtime.server.api.body import RequestBody
from binhdan.runtime.server.api.common import MAX_TOKENS, ModelName
from binhdan.runtime.server.context import server_of
from binhdan.runtime.server.errors import ApiError
from binhdan.runtime.server.http.json_route import JsonRoute

router = APIRouter(route_class=JsonRoute)


class TokenizeBody(RequestBody):
    """`content` is llama.cpp's name of the text, `prompt` is vLLM's."""

    model: ModelName = None
    content: str | None = None
    prompt: str | None = None
    add_special: bool = False
    parse_special: bool = False
    with_pieces: bool = False


class DetokenizeBody(RequestBody):
    model: ModelName = None
    tokens: Annotated[list[int], Field(max_length=MAX_TOKENS)]


@router.post("/tokenize")
async def tokenize(request: Request, body: TokenizeBody) -> dict[str, Any]:
    """The tokens of a text."""
    text = body.content if body.content is not None else body.prompt
    if text is None:
        raise ApiError(400, "content: expected a text, got none", param="content")
    async with server_of(request).pool.use(body.model) as loaded:
        tokenizer = loaded.model.tokenizer
        tokens = await asyncio.to_thread(
            tokenizer.encode, text, add_special=body.add_special, parse_special=body.parse_special
        )
        if not body.with_pieces:
            return {"tokens": tokens, "count": len(tokens)}
        pieces = [{"id": token, "piece": tokenizer.token_text(token)} for token in tokens]
        return {"tokens": pieces, "count": len(tokens)}


@router.post("/detokenize")
async def detokenize(request: Request, body: DetokenizeBody) -> dict[str, str]:
    """The text of tokens. Bytes that are not UTF-8 become U+FFFD."""
    async with server_of(request).pool.use(body.model) as loaded:
        return {"content": await asyncio.to_thread(loaded.model.detokenize, body.tokens, special=True)}
