"""llama.cpp's own endpoints for text: /completion and /infill."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import AliasChoices, Field

from binhdan.runtime.prompting.tokenizer import Prompt, Tokenizer
from binhdan.runtime.results import Answer, TokenLogprob
from binhdan.runtime.server.access.keys import Caller
from binhdan.runtime.server.answers.generation import GenerationPlan
from binhdan.runtime.server.answers.lifecycle import RequestLifecycle, respond
from binhdan.runtime.server.answers.logprobs import chat_logprobs
from binhdan.runtime.server.answers.response_format import mask_factory
from binhdan.runtime.server.answers.timings import timings
from binhdan.runtime.server.api.body import Body
from binhdan.runtime.server.api.common import Ignored, ModelName, Sampling, off
from binhdan.runtime.server.api.form import Formed
from binhdan.runtime.server.api.prompts import TextOrTokens, texts_of, to_prompt
from binhdan.runtime.server.errors import ApiError
from binhdan.runtime.server.http.json_route import JsonRoute
from binhdan.runtime.server.http.sse import Frames
from binhdan.runtime.server.models.pool import LoadedModel

MAX_PROMPTS = 64
MAX_EXTRA = 256  # further files of an infill
RANDOM_SEED = 2**32 - 1  # what llama.cpp reports for a request without a seed

router = APIRouter(route_class=JsonRoute)

# binhdan's finish reason -> llama.cpp's stop_type.
_STOP_TYPES = {"length": "limit", "context": "limit", "repetition": "limit", "cancelled": "none"}


# ---- schema ------------------------------------------------------------------------------------------------


class NativeBody(Sampling, Formed, Ignored):
    model: ModelName = None
    prompt: TextOrTokens
    n_predict: Annotated[int | None, Field(ge=0, lt=2**31), off(-1)] = None
    n: Annotated[int | None, Field(ge=1, le=128, validation_alias=AliasChoices("n", "n_cmpl"))] = None
    n_probs: Annotated[int | None, Field(ge=0, le=20), off(0)] = None
    return_tokens: bool = False
    # The members of a response; "a/b" is member b of member a. Empty: all.
    response_fields: Annotated[list[Annotated[str, Field(max_length=256)]], Field(max_length=64)] = Field(
        default_factory=list
    )

    def prompts(self, tokenizer: Tokenizer) -> list[Prompt]:
        """The prompts. Raises ApiError for too many, and TooLargeError."""
        texts = texts_of(self.prompt)
        if len(texts) > MAX_PROMPTS:
            raise ApiError(
                400, f"prompt: expected at most {MAX_PROMPTS} prompts, got {len(texts)}", param="prompt"
            )
        return [to_prompt(tokenizer, text) for text in texts]

    @property
    def several(self) -> bool:
        """True if the response is a list of answers."""
        return len(texts_of(self.prompt)) > 1 or (self.n or 1) > 1


class InputExtra(Body):
    filename: str = ""
    text: str


class InfillBody(NativeBody):
    """The answer goes between `input_prefix` with `prompt`, and `input_suffix`."""

    prompt: str = ""
    input_prefix: str
    input_suffix: str
    input_extra: Annotated[list[InputExtra], Field(max_length=MAX_EXTRA)] = Field(default_factory=list)

    def prompts(self, tokenizer: Tokenizer) -> list[Prompt]:
        extra = [(one.filename, one.text) for one in self.input_extra]
        return [tokenizer.infill_prompt(self.input_prefix, self.input_suffix, extra, self.prompt)]


# ---- routes ------------------------------------------------------------------------------------------------


@router.post("/completion")
@router.post("/completions", include_in_schema=False)
async def complete(request: Request, body: NativeBody) -> Response:
    """Continues texts, in llama.cpp's format."""
    return await respond(request, body.model, _NativeHandler(body), stream=bool(body.stream))


@router.post("/infill")
async def infill(request: Request, body: InfillBody) -> Response:
    """Fills in the middle of a text, in llama.cpp's format: for models that were trained for it."""
    return await respond(request, body.model, _NativeHandler(body), stream=bool(body.stream))


class _NativeHandler:
    """Plans and answers one request."""

    named_events = False
    with_done = False
    prompt_param = "prompt"

    def __init__(self, body: NativeBody) -> None:
        self._body = body

    def plan(self, loaded: LoadedModel, caller: Caller) -> GenerationPlan:
        body, tokenizer = self._body, loaded.model.tokenizer
        prompts = [
            body.truncated(prompt, loaded.model.context, body.n_predict) for prompt in body.prompts(tokenizer)
        ]
        return GenerationPlan(
            prompts=prompts,
            options=body.generation(tokenizer, body.n_predict, body.n_probs),
            n=body.n or 1,
            new_mask=mask_factory(loaded, body.spec(), prompts[0]),
            cache_salt=body.salt(caller),
            use_cache=body.cache_prompt,
        )

    def to_json(self, lifecycle: RequestLifecycle) -> Any:
        """The whole answer, or the list of answers."""
        ends = self._ends(lifecycle, with_text=True)
        return ends if self._body.several else ends[0]

    async def to_frames(self, lifecycle: RequestLifecycle) -> Frames:
        """An object for each text, then for each answer one without text that has the rest of the facts."""
        generation = lifecycle.generation
        async for batch in generation.batches():
            values: list[dict[str, Any] | bytes] = []
            for index, piece in batch:
                value = {"index": index, "content": piece.text, "tokens": list(piece.tokens), "stop": False}
                value |= self._probabilities(lifecycle, () if piece.logprob is None else (piece.logprob,))
                if self._body.timings_per_token:
                    value["timings"] = timings(generation.answer(index))
                values.append(value)
            yield values
        yield [*self._ends(lifecycle, with_text=False)]

    def _ends(self, lifecycle: RequestLifecycle, *, with_text: bool) -> list[dict[str, Any]]:
        """The facts of each answer, with its text, or without it after a stream."""
        detokenize, plan = lifecycle.loaded.model.detokenize, lifecycle.plan
        # What is the same in many answers: one request may have thousands of them.
        shared = {
            "id_slot": 0,
            "stop": True,
            "model": lifecycle.loaded.name,
            "generation_settings": self._settings(lifecycle),
            "usage": lifecycle.usage(),
        }
        prompts = [detokenize(prompt.tokens, special=True) for prompt in plan.prompts]
        ends = []
        for index, answer in enumerate(lifecycle.answers()):
            own = self._end(lifecycle, answer, answer.text if with_text else "")
            value = {"index": index, "prompt": prompts[index // plan.n]} | own | shared
            ends.append(_selected(value, self._body.response_fields))
        return ends

    def _end(self, lifecycle: RequestLifecycle, answer: Answer, text: str) -> dict[str, Any]:
        word = answer.stopped_by if isinstance(answer.stopped_by, str) else ""
        kind = _STOP_TYPES.get(answer.finish_reason) or ("word" if word else "eos")
        return {
            "content": text,
            "tokens": list(answer.tokens) if self._body.return_tokens and text else [],
            "tokens_predicted": answer.answer_tokens,
            "tokens_evaluated": answer.prompt_tokens,
            "has_new_line": "\n" in answer.text,
            "truncated": answer.finish_reason == "context",
            "stop_type": kind,
            "stopping_word": word,
            "tokens_cached": answer.prompt_tokens + answer.answer_tokens,
            "timings": timings(answer),
        } | self._probabilities(lifecycle, (answer.logprobs or ()) if text else ())

    def _settings(self, lifecycle: RequestLifecycle) -> dict[str, Any]:
        """The settings of the answers under llama.cpp's names."""
        options, body = lifecycle.plan.options, self._body
        maximum = -1 if options.max_tokens is None else options.max_tokens
        bias: list[dict[str, float | None]] = [
            {"token": token, "bias": value} for token, value in options.logit_bias.items()
        ]
        if options.ignore_eos:  # null: the end tokens are impossible
            roles = lifecycle.loaded.model.token_roles()
            bias += [{"token": token, "bias": None} for token, role in enumerate(roles) if role == 1]
        return {
            "n_predict": maximum,
            "max_tokens": maximum,
            "seed": RANDOM_SEED if options.seed is None else options.seed,
            "temperature": options.temperature,
            "top_k": options.top_k,
            "top_p": options.top_p,
            "min_p": options.min_p,
            "repeat_penalty": options.repetition_penalty,
            "presence_penalty": options.presence_penalty,
            "frequency_penalty": options.frequency_penalty,
            "stop": list(options.stop),
            "ignore_eos": options.ignore_eos,
            "logit_bias": bias,
            "n_probs": options.logprobs or 0,
            "stream": bool(body.stream),
            "grammar": body.grammar or "",
        }

    def _probabilities(self, lifecycle: RequestLifecycle, tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
        if not tokens:
            return {}
        listed = chat_logprobs(lifecycle.loaded.model.tokenizer, tokens)["content"]
        for token, entry in zip(tokens, listed, strict=True):
            entry["id"] = token.token
            for other, top in zip(token.top, entry["top_logprobs"], strict=True):
                top["id"] = other.token
        return {"completion_probabilities": listed}


def _selected(value: dict[str, Any], paths: Sequence[str]) -> dict[str, Any]:
    """The members that `paths` name, under their paths; all members if there are no paths."""
    if not paths:
        return value
    found: dict[str, Any] = {}
    for path in paths:
        member: Any = value
        for name in path.split("/"):
            member = member.get(name) if isinstance(member, dict) else None
        if member is not None:
            found[path] = member
    return found
