"""/v1/embeddings."""

from __future__ import annotations

import array
import asyncio
import base64
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import Field

from binhdan.runtime.prompting.tokenizer import Prompt
from binhdan.runtime.server.accounting.record import AnswerRecord
from binhdan.runtime.server.answers.generation import embed
from binhdan.runtime.server.answers.lifecycle import until_disconnect
from binhdan.runtime.server.api.common import Body, ModelName, TextOrTokens, texts_of, to_prompt
from binhdan.runtime.server.context import server_of
from binhdan.runtime.server.errors import ApiError
from binhdan.runtime.server.http.json_route import JsonRoute
from binhdan.runtime.server.models.pool import LoadedModel

_BATCH = 16  # texts in the engine at a time, so that one request cannot fill its queue

router = APIRouter(route_class=JsonRoute)


class EmbeddingBody(Body):
    model: ModelName = None
    input: TextOrTokens
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int | None, Field(ge=1)] = None
    user: str | None = None


@router.post("/v1/embeddings")
async def create_embeddings(request: Request, body: EmbeddingBody) -> JSONResponse:
    """The mean of the final hidden states of each text, scaled to length 1."""
    server, caller, arrived = server_of(request), request.state.caller, time.perf_counter()
    async with AsyncExitStack() as stack:
        # plan
        loaded = await stack.enter_async_context(server.pool.use(body.model))
        tokenizer, info = loaded.model.tokenizer, loaded.model.info
        if body.dimensions not in (None, info.embedding):
            raise ApiError(
                400,
                f"dimensions: expected {info.embedding}, the width of this model, got {body.dimensions}",
                param="dimensions",
            )
        prompts = await asyncio.to_thread(
            lambda: [to_prompt(tokenizer, text) for text in texts_of(body.input)]
        )
        tokens = sum(len(prompt.tokens) for prompt in prompts)
        admission = await stack.enter_async_context(server.limiter.admit(caller, tokens, 0))

        # run
        work = server.biller.begin(info.bytes_per_token / 1e9)
        vectors = await until_disconnect(request, _embed_all(loaded, prompts))

        # record
        admission.settle(tokens)
        seconds = time.perf_counter() - arrived
        record = AnswerRecord(
            request_id=request.state.request_id,
            route=request.url.path,
            model=loaded.name,
            key=caller.name,
            finish_reason="stop",
            prompt_tokens=tokens,
            cached_tokens=0,
            answer_tokens=0,
            queue=0.0,
            prefill=seconds,
            decode=0.0,
            total=seconds,
        )
        bill = server.biller.bill(record, work)
        server.account(record, bill)

    # reply
    return JSONResponse(
        {
            "object": "list",
            "model": loaded.name,
            "data": [
                {"object": "embedding", "index": i, "embedding": _encode(vector, body.encoding_format)}
                for i, vector in enumerate(vectors)
            ],
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens, "binhdan": bill.usage()},
        }
    )


async def _embed_all(loaded: LoadedModel, prompts: Sequence[Prompt]) -> list[tuple[float, ...]]:
    vectors: list[tuple[float, ...]] = []
    for start in range(0, len(prompts), _BATCH):
        vectors += await embed(loaded.dispatcher, prompts[start : start + _BATCH])
    return vectors


def _encode(vector: Sequence[float], encoding: str) -> Any:
    """A list of numbers, or base64 of little-endian float32."""
    if encoding == "float":
        return vector
    packed = array.array("f", vector)
    if sys.byteorder == "big":
        packed.byteswap()
    return base64.b64encode(packed.tobytes()).decode("ascii")
