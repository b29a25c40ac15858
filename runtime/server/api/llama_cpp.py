"""llama.cpp's own endpoints: /completion and /props."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field

from binhdan.runtime.ffi import library
from binhdan.runtime.results import Answer, TokenLogprob
from binhdan.runtime.server.access.keys import Caller
from binhdan.runtime.server.answers.generation import GenerationPlan
from binhdan.runtime.server.answers.lifecycle import RequestLifecycle, respond
from binhdan.runtime.server.answers.logprobs import chat_logprobs
from binhdan.runtime.server.answers.response_format import mask_factory
from binhdan.runtime.server.answers.timings import timings
from binhdan.runtime.server.api.common import (
    Ignored,
    ModelName,
    Sampling,
    TextOrTokens,
    off,
    texts_of,
    to_prompt,
)
from binhdan.runtime.server.api.form import Formed
from binhdan.runtime.server.context import server_of
from binhdan.runtime.server.errors import ApiError
from binhdan.runtime.server.http.json_route import JsonRoute
from binhdan.runtime.server.http.sse import Frames
from binhdan.runtime.server.models.pool import LoadedModel

router = APIRouter(route_class=JsonRoute)

# binhdan's finish reason -> llama.cpp's stop_type.
_STOP_TYPES = {"length": "limit", "context": "limit", "repetition": "limit", "cancelled": "none"}


class NativeBody(Sampling, Formed, Ignored):
    """One text or the tokens of one."""

    model: ModelName = None
    prompt: TextOrTokens
    n_predict: Annotated[int | None, Field(ge=0, lt=2**31, validation_alias="n_predict"), off(-1)] = None
    n_probs: Annotated[int | None, Field(ge=0, le=20), off(0)] = None
    return_tokens: bool = False


@router.post("/completion")
@router.post("/completions", include_in_schema=False)
async def complete(request: Request, body: NativeBody) -> Response:
    """Continues a text, in llama.cpp's format."""
    if len(texts_of(body.prompt)) != 1:
        raise ApiError(400, "prompt: expected one text; for several use /v1/completions", param="prompt")
    if (body.n or 1) != 1:
        raise ApiError(400, "n: expected 1; for several answers use /v1/completions", param="n")
    return await respond(request, body.model, _NativeHandler(body), stream=bool(body.stream))


class _NativeHandler:
    """Plans and answers one request."""

    named_events = False
    with_done = False
    prompt_param = "prompt"

    def __init__(self, body: NativeBody) -> None:
        self._body = body

    def plan(self, loaded: LoadedModel, caller: Caller) -> GenerationPlan:
        body = self._body
        prompt = to_prompt(loaded.model.tokenizer, texts_of(body.prompt)[0])
        prompt = body.truncated(prompt, loaded.model.context, body.n_predict)
        return GenerationPlan(
            prompts=[prompt],
            options=body.generation(body.n_predict, body.n_probs, thinking=False),
            new_mask=mask_factory(loaded, body.spec(), prompt),
            cache_salt=body.salt(caller),
            use_cache=body.cache_prompt,
        )

    def to_json(self, lifecycle: RequestLifecycle) -> dict[str, Any]:
        """The whole answer."""
        answer = lifecycle.answers()[0]
        return self._end(lifecycle, answer, answer.text)

    async def to_frames(self, lifecycle: RequestLifecycle) -> Frames:
        """An object for each text, then one without text that has the rest of the facts."""
        async for batch in lifecycle.generation.batches():
            yield [
                {"index": 0, "content": piece.text, "tokens": [], "stop": False}
                | self._probabilities(lifecycle, () if piece.logprob is None else (piece.logprob,))
                for _, piece in batch
            ]
        yield [self._end(lifecycle, lifecycle.answers()[0], "")]

    def _end(self, lifecycle: RequestLifecycle, answer: Answer, text: str) -> dict[str, Any]:
        stopping = next((stop for stop in self._stops(lifecycle) if _ends_with(lifecycle, stop)), "")
        kind = _STOP_TYPES.get(answer.finish_reason) or ("word" if stopping else "eos")
        return {
            "index": 0,
            "content": text,
            "tokens": list(answer.tokens) if self._body.return_tokens else [],
            "id_slot": 0,
            "stop": True,
            "model": lifecycle.loaded.name,
            "tokens_predicted": answer.answer_tokens,
            "tokens_evaluated": answer.prompt_tokens,
            "truncated": answer.finish_reason == "context",
            "stop_type": kind,
            "stopping_word": stopping,
            "tokens_cached": answer.prompt_tokens + answer.answer_tokens,
            "timings": timings(answer),
            "usage": lifecycle.usage(),
        } | self._probabilities(lifecycle, (answer.logprobs or ()) if text else ())

    def _stops(self, lifecycle: RequestLifecycle) -> Sequence[str]:
        return lifecycle.plan.options.stop

    def _probabilities(self, lifecycle: RequestLifecycle, tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
        if not tokens:
            return {}
        listed = chat_logprobs(lifecycle.loaded.model.tokenizer, tokens)["content"]
        for token, entry in zip(tokens, listed, strict=True):
            entry["id"] = token.token
            for other, top in zip(token.top, entry["top_logprobs"], strict=True):
                top["id"] = other.token
        return {"completion_probabilities": listed}


def _ends_with(lifecycle: RequestLifecycle, stop: str) -> bool:
    """True if the tokens of the answer contain the stop text, which its text does not have."""
    answer = lifecycle.answers()[0]
    return stop in lifecycle.loaded.model.detokenize(answer.tokens, special=True)


@router.get("/props")
async def props(request: Request) -> Response:
    """Facts about the default model and the server, as llama.cpp's clients read them. No paths."""
    server = server_of(request)
    async with server.pool.use(None) as loaded:
        tokenizer, info = loaded.model.tokenizer, loaded.model.info
        return JSONResponse(
            {
                "default_generation_settings": {
                    "n_ctx": loaded.model.context,
                    "params": {"temperature": 0.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "n_predict": -1},
                },
                "total_slots": server.config.max_sequences,
                "model_alias": loaded.name,
                "chat_template": tokenizer.chat_template_source or "",
                "bos_token": "" if info.bos is None else tokenizer.token_text(info.bos),
                "eos_token": "" if info.eos is None else tokenizer.token_text(info.eos),
                "modalities": {"vision": False, "audio": False},
                "build_info": f"binhdan {library().version()}",
            }
        )
