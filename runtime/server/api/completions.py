"""/v1/completions: goes on with texts, without a chat template."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from binhdan.runtime.prompting.tokenizer import Prompt, Tokenizer
from binhdan.runtime.results import Piece
from binhdan.runtime.server.access.keys import Caller
from binhdan.runtime.server.answers.generation import Job
from binhdan.runtime.server.answers.lifecycle import Exchange, respond
from binhdan.runtime.server.answers.logprobs import completion_logprobs
from binhdan.runtime.server.answers.response_format import format_spec, mask_maker
from binhdan.runtime.server.api.schemas.completions import CompletionBody
from binhdan.runtime.server.http.errors import ApiError
from binhdan.runtime.server.http.sse import Frames
from binhdan.runtime.server.models.pool import LoadedModel

router = APIRouter()

# OpenAI's words for why an answer ended.
FINISH_REASONS = {"stop": "stop", "length": "length", "context": "length", "cancelled": "length"}


@router.post("/v1/completions")
async def create_completion(request: Request, body: CompletionBody) -> Response:
    """Goes on with one or more texts."""
    if body.echo and body.logprobs is not None:
        raise ApiError(400, "echo: log probabilities of the prompt are not computed", param="echo")

    def prepare(loaded: LoadedModel, caller: Caller) -> Job:
        prompts = [to_prompt(loaded.model.tokenizer, prompt) for prompt in body.prompts()]
        return Job(
            prompts=prompts,
            options=body.generation(body.max_tokens, body.logprobs, thinking=False),
            n=body.n or 1,
            new_mask=mask_maker(loaded, format_spec(body.response_format), prompts[0]),
            cache_salt=caller.salt,
            use_cache=body.cache_prompt,
        )

    exchange = Exchange(request, body.model, prepare)
    reply = _Reply(body)
    return await respond(request, exchange, stream=bool(body.stream), whole=reply.whole, frames=reply.frames)


def to_prompt(tokenizer: Tokenizer, prompt: str | list[int]) -> Prompt:
    """Text of a user, or tokens as they are."""
    return tokenizer.text_prompt(prompt) if isinstance(prompt, str) else Prompt(prompt)


class _Reply:
    """The answers in OpenAI's shape."""

    def __init__(self, body: CompletionBody) -> None:
        self._body = body

    def whole(self, exchange: Exchange) -> dict[str, Any]:
        choices = []
        for index, answer in enumerate(exchange.answers()):
            echo = self._echo(exchange, index)
            logprobs = None
            if answer.logprobs is not None:
                logprobs = completion_logprobs(answer.logprobs, len(echo))
            choices.append(_choice(index, echo + answer.text, FINISH_REASONS[answer.finish_reason], logprobs))
        return _object(exchange, choices) | {"usage": exchange.usage()}

    async def frames(self, exchange: Exchange) -> Frames:
        generation = exchange.generation
        offsets = [0] * len(generation)
        ended: set[int] = set()

        def endings() -> list[dict[str, Any] | bytes]:
            values: list[dict[str, Any] | bytes] = []
            for index in range(len(generation)):
                if generation.finished(index) and index not in ended:
                    ended.add(index)
                    reason = FINISH_REASONS[generation.answer(index).finish_reason]
                    values.append(_object(exchange, [_choice(index, "", reason, None)]))
            return values

        if self._body.echo:
            echoes = [self._echo(exchange, index) for index in range(len(generation))]
            offsets = [len(echo) for echo in echoes]
            yield [_object(exchange, [_choice(i, echo, None, None)]) for i, echo in enumerate(echoes)]
        async for batch in generation.batches():
            values: list[dict[str, Any] | bytes] = []
            for index, piece in batch:
                logprobs = self._piece_logprobs(piece, offsets[index])
                offsets[index] += len(piece.text)
                values.append(_object(exchange, [_choice(index, piece.text, None, logprobs)]))
            yield values + endings()
        yield endings()
        if self._body.stream_options is not None and self._body.stream_options.include_usage:
            yield [_object(exchange, []) | {"usage": exchange.usage()}]

    def _echo(self, exchange: Exchange, index: int) -> str:
        if not self._body.echo:
            return ""
        prompt = self._body.prompts()[index // exchange.job.n]
        return prompt if isinstance(prompt, str) else exchange.loaded.model.detokenize(prompt)

    @staticmethod
    def _piece_logprobs(piece: Piece, offset: int) -> dict[str, Any] | None:
        return None if piece.logprob is None else completion_logprobs([piece.logprob], offset)


def _choice(
    index: int, text: str, finish_reason: str | None, logprobs: dict[str, Any] | None
) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish_reason}


def _object(exchange: Exchange, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": f"cmpl-{exchange.id}",
        "object": "text_completion",
        "created": exchange.created,
        "model": exchange.loaded.name,
        "choices": choices,
    }
