"""/v1/completions: continues texts, without a chat template."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import Field, field_validator

from binhdan.runtime.prompting.tokenizer import Prompt, Tokenizer
from binhdan.runtime.results import Piece
from binhdan.runtime.server.access.keys import Caller
from binhdan.runtime.server.answers.generation import GenerationPlan
from binhdan.runtime.server.answers.lifecycle import RequestLifecycle, respond
from binhdan.runtime.server.answers.logprobs import (
    completion_logprobs,
    echoed_logprobs,
    joined_logprobs,
    vllm_prompt_logprobs,
)
from binhdan.runtime.server.answers.response_format import mask_factory
from binhdan.runtime.server.answers.timings import timings
from binhdan.runtime.server.api.common import (
    FINGERPRINT,
    FINISH_REASONS,
    MAX_TOKENS_NAMES,
    Ignored,
    ModelName,
    PromptLogprobs,
    Sampling,
    off,
)
from binhdan.runtime.server.api.form import Formed
from binhdan.runtime.server.api.prompts import OnePrompt, TextOrTokens, texts_of, to_prompt
from binhdan.runtime.server.errors import ApiError
from binhdan.runtime.server.http.json_route import JsonRoute
from binhdan.runtime.server.http.sse import Frames
from binhdan.runtime.server.models.pool import LoadedModel

MAX_PROMPTS = 64

router = APIRouter(route_class=JsonRoute)


class CompletionBody(Sampling, Formed, Ignored):
    model: ModelName = None
    prompt: TextOrTokens
    # OpenAI's default is 16. 0: no answer, for `echo`.
    max_tokens: Annotated[int | None, Field(ge=0, lt=2**31, validation_alias=MAX_TOKENS_NAMES), off(-1)] = 16
    logprobs: Annotated[int | None, Field(ge=0, le=20)] = None
    n_probs: Annotated[int | None, Field(ge=0, le=20), off(0)] = None  # llama.cpp's name of logprobs
    prompt_logprobs: PromptLogprobs = None  # vLLM's
    echo: bool = False
    best_of: Annotated[int | None, Field(ge=1, le=1)] = None  # more would compute answers and drop them
    suffix: str | None = None  # the answer goes between prompt and suffix: for models trained for it

    @property
    def token_logprobs(self) -> int | None:
        """How many of the most likely tokens are reported for each token; None: no log probabilities."""
        return self.n_probs if self.logprobs is None else self.logprobs

    @property
    def scored(self) -> int | None:
        """The same for the tokens of the prompts."""
        wanted = [self.prompt_logprobs, self.token_logprobs if self.echo else None]
        return max((one for one in wanted if one is not None), default=None)

    @field_validator("prompt")
    @classmethod
    def _few_prompts(cls, prompt: TextOrTokens) -> TextOrTokens:
        if (count := len(texts_of(prompt))) > MAX_PROMPTS:
            raise ValueError(f"expected at most {MAX_PROMPTS} prompts, got {count}")
        return prompt


@router.post("/v1/completions")
async def create_completion(request: Request, body: CompletionBody) -> Response:
    """Continues one or more texts."""
    if body.scored is not None and body.stream:
        raise ApiError(
            400, "stream: expected false with prompt_logprobs, or echo and logprobs", param="stream"
        )
    if body.max_tokens == 0 and not body.echo and body.prompt_logprobs is None:
        raise ApiError(
            400, "max_tokens: expected at least 1 without echo or prompt_logprobs", param="max_tokens"
        )
    if body.suffix and body.echo:
        raise ApiError(400, "suffix: expected none with echo", param="suffix")
    return await respond(request, body.model, _CompletionHandler(body), stream=bool(body.stream))


class _CompletionHandler:
    """Plans and answers one request."""

    named_events = False
    prompt_param = "prompt"

    def __init__(self, body: CompletionBody) -> None:
        self._body = body
        self._texts = texts_of(body.prompt)

    def plan(self, loaded: LoadedModel, caller: Caller) -> GenerationPlan:
        body = self._body
        prompts = [
            body.truncated(self._prompt(loaded.model.tokenizer, text), loaded.model.context, body.max_tokens)
            for text in self._texts
        ]
        return GenerationPlan(
            prompts=prompts,
            options=body.generation(loaded.model.tokenizer, body.max_tokens, body.token_logprobs),
            n=body.n or 1,
            new_mask=mask_factory(loaded, body.spec(), prompts[0]),
            cache_salt=body.salt(caller),
            use_cache=body.cache_prompt,
            score_prompts=body.scored,
        )

    def _prompt(self, tokenizer: Tokenizer, text: OnePrompt) -> Prompt:
        if not self._body.suffix:
            return to_prompt(tokenizer, text)
        if not isinstance(text, str):
            raise ApiError(400, "prompt: expected a text with suffix, got token ids", param="prompt")
        return tokenizer.infill_prompt(text, self._body.suffix)

    def to_json(self, lifecycle: RequestLifecycle) -> dict[str, Any]:
        """The text_completion object."""
        choices = []
        for index, answer in enumerate(lifecycle.answers()):
            echo = self._echo(lifecycle, index)
            logprobs = None
            if answer.logprobs is not None:
                logprobs = completion_logprobs(answer.logprobs, len(echo))
                if self._body.echo:
                    logprobs = joined_logprobs(self._echoed_logprobs(lifecycle, index), logprobs)
            choice = _choice(index, echo + answer.text, FINISH_REASONS[answer.finish_reason], logprobs)
            choice["stop_reason"] = answer.stopped_by
            if self._body.prompt_logprobs is not None:
                values = lifecycle.generation.prompt_logprobs[index // lifecycle.plan.n]
                choice["prompt_logprobs"] = vllm_prompt_logprobs(values, self._body.prompt_logprobs)
            choices.append(choice)
        first = {"timings": timings(lifecycle.generation.answer(0))}
        return _object(lifecycle, choices) | {"usage": lifecycle.usage()} | first

    async def to_frames(self, lifecycle: RequestLifecycle) -> Frames:
        """text_completion objects: the prompts if `echo` is set, texts, finish reasons, usage."""
        generation = lifecycle.generation
        offsets = [0] * len(generation)
        ended: set[int] = set()

        def endings() -> list[dict[str, Any] | bytes]:
            """The last objects of the answers that have ended since the last call."""
            values: list[dict[str, Any] | bytes] = []
            for index in range(len(generation)):
                if generation.finished(index) and index not in ended:
                    ended.add(index)
                    answer = generation.answer(index)
                    choice = _choice(index, "", FINISH_REASONS[answer.finish_reason], None)
                    choice["stop_reason"] = answer.stopped_by
                    values.append(_object(lifecycle, [choice]) | {"timings": timings(answer)})
            return values

        if self._body.echo:
            echoes = [self._echo(lifecycle, index) for index in range(len(generation))]
            offsets = [len(echo) for echo in echoes]
            yield [_object(lifecycle, [_choice(i, echo, None, None)]) for i, echo in enumerate(echoes)]
        async for batch in generation.batches():
            values: list[dict[str, Any] | bytes] = []
            for index, piece in batch:
                logprobs = _piece_logprobs(piece, offsets[index])
                offsets[index] += len(piece.text)
                value = _object(lifecycle, [_choice(index, piece.text, None, logprobs)])
                if self._body.timings_per_token:
                    value["timings"] = timings(generation.answer(index))
                values.append(value)
            yield values + endings()
        yield endings()
        if self._body.include_usage:
            end = {"usage": lifecycle.usage(), "timings": timings(generation.answer(0))}
            yield [_object(lifecycle, []) | end]

    def _echo(self, lifecycle: RequestLifecycle, index: int) -> str:
        """The text of the prompt before answer `index`; "" without `echo`."""
        if not self._body.echo:
            return ""
        number = index // lifecycle.plan.n
        text, tokens = self._texts[number], lifecycle.plan.prompts[number].tokens
        return text if isinstance(text, str) else lifecycle.loaded.model.detokenize(tokens)

    def _echoed_logprobs(self, lifecycle: RequestLifecycle, index: int) -> dict[str, Any]:
        """The log probabilities of the prompt of answer `index`, without tokens that its text does not have,
        such as BOS."""
        tokenizer, number = lifecycle.loaded.model.tokenizer, index // lifecycle.plan.n
        tokens = lifecycle.plan.prompts[number].tokens
        values = lifecycle.generation.prompt_logprobs[number]
        begin = 0
        text = self._texts[number]
        if isinstance(text, str) and tokens and not text.startswith(tokenizer.token_text(tokens[0])):
            begin = int(not tokenizer.decode(tokens[:1]))
        assert self._body.token_logprobs is not None
        return echoed_logprobs(tokenizer, tokens[begin:], values[begin:], self._body.token_logprobs)


def _piece_logprobs(piece: Piece, offset: int) -> dict[str, Any] | None:
    return None if piece.logprob is None else completion_logprobs([piece.logprob], offset)


def _choice(
    index: int, text: str, finish_reason: str | None, logprobs: dict[str, Any] | None
) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish_reason}


def _object(lifecycle: RequestLifecycle, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": f"cmpl-{lifecycle.id}",
        "object": "text_completion",
        "created": lifecycle.created,
        "model": lifecycle.loaded.name,
        "system_fingerprint": FINGERPRINT,
        "choices": choices,
    }
