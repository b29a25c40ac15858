"""/v1/embeddings."""

from __future__ import annotations

import array
import asyncio
import base64
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from binhdan.runtime.prompting.tokenizer import Prompt
from binhdan.runtime.server.accounting.record import AnswerRecord
from binhdan.runtime.server.answers.generation import embed
from binhdan.runtime.server.answers.lifecycle import until_disconnect
from binhdan.runtime.server.api.completions import to_prompt
from binhdan.runtime.server.api.schemas.embeddings import EmbeddingBody
from binhdan.runtime.server.context import server_of
from binhdan.runtime.server.http.errors import ApiError
from binhdan.runtime.server.models.pool import LoadedModel

router = APIRouter()

_TOGETHER = 16  # texts in the engine at once, so that one request cannot fill its queue


@router.post("/v1/embeddings")
async def create_embeddings(request: Request, body: EmbeddingBody) -> JSONResponse:
    """The mean of the final hidden states of each text, scaled to length 1."""
    server, arrived = server_of(request), time.perf_counter()
    async with AsyncExitStack() as stack:
        loaded = await stack.enter_async_context(server.pool.use(body.model))
        width = loaded.model.info.embedding
        if body.dimensions not in (None, width):
            raise ApiError(400, f"dimensions: this model's embeddings have {width}", param="dimensions")
        tokenizer = loaded.model.tokenizer
        prompts = await asyncio.to_thread(lambda: [to_prompt(tokenizer, one) for one in body.inputs()])
        tokens = sum(len(prompt.tokens) for prompt in prompts)
        admission = await stack.enter_async_context(server.limiter.admit(request.state.caller, tokens, 0))
        work = server.biller.begin(loaded.model.info.bytes_per_token / 1e9)
        values = await until_disconnect(request, _embed_all(loaded, prompts))
        admission.settle(tokens)
        record = AnswerRecord(
            request_id=request.state.request_id,
            route=request.url.path,
            model=loaded.name,
            key=request.state.caller.name,
            finish_reason="stop",
            prompt_tokens=tokens,
            cached_tokens=0,
            answer_tokens=0,
            queue=0.0,
            prefill=time.perf_counter() - arrived,
            decode=0.0,
            total=time.perf_counter() - arrived,
        )
        bill = server.biller.bill(record, work)
        server.account(record, bill)
        return JSONResponse(
            {
                "object": "list",
                "model": loaded.name,
                "data": [
                    {"object": "embedding", "index": i, "embedding": _encode(one, body.encoding_format)}
                    for i, one in enumerate(values)
                ],
                "usage": {
                    "prompt_tokens": tokens,
                    "total_tokens": tokens,
                    "binhdan": bill.usage(),
                },
            }
        )


async def _embed_all(loaded: LoadedModel, prompts: Sequence[Prompt]) -> list[tuple[float, ...]]:
    values: list[tuple[float, ...]] = []
    for start in range(0, len(prompts), _TOGETHER):
        values += await embed(loaded.dispatcher, prompts[start : start + _TOGETHER])
    return values


def _encode(values: Sequence[float], encoding: str) -> Any:
    """Numbers, or float32 in little-endian order as base64."""
    if encoding == "float":
        return values
    packed = array.array("f", values)
    if sys.byteorder == "big":
        packed.byteswap()
    return base64.b64encode(packed.tobytes()).decode("ascii")
