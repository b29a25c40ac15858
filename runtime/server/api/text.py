"""/tokenize and /detokenize: exact, with no normalisation; as llama.cpp's server has them."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request

from binhdan.runtime.server.api.schemas.completions import DetokenizeBody, TokenizeBody
from binhdan.runtime.server.context import server_of
from binhdan.runtime.server.http.errors import ApiError

router = APIRouter()


@router.post("/tokenize")
async def tokenize(request: Request, body: TokenizeBody) -> dict[str, Any]:
    """The tokens of a text."""
    text = body.content if body.content is not None else body.prompt
    if text is None:
        raise ApiError(400, "content: expected a text", param="content")
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
    """The text of tokens; bytes that are not UTF-8 become U+FFFD."""
    async with server_of(request).pool.use(body.model) as loaded:
        return {"content": await asyncio.to_thread(loaded.model.detokenize, body.tokens, special=True)}
