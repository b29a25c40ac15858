"""/v1/chat/completions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import Field

from binhdan.runtime.results import Answer, Piece, TokenLogprob
from binhdan.runtime.server.access.keys import Caller
from binhdan.runtime.server.answers.deltas import DeltaBuilder, MessageBuilder
from binhdan.runtime.server.answers.generation import GenerationPlan
from binhdan.runtime.server.answers.lifecycle import RequestLifecycle, respond
from binhdan.runtime.server.answers.logprobs import chat_logprobs, vllm_prompt_logprobs
from binhdan.runtime.server.answers.response_format import mask_factory
from binhdan.runtime.server.answers.timings import timings
from binhdan.runtime.server.api.common import (
    FINGERPRINT,
    FINISH_REASONS,
    MAX_TOKENS_NAMES,
    Ignored,
    JsonObject,
    ModelName,
    PromptLogprobs,
    ReasoningEffort,
    Sampling,
    TokenCount,
    off,
    thinks,
)
from binhdan.runtime.server.api.conversation import (
    MAX_MESSAGES,
    ChatMessage,
    Function,
    NamedFunction,
    NamedTool,
    Tool,
    render_prompt,
)
from binhdan.runtime.server.api.form import Formed
from binhdan.runtime.server.errors import ApiError
from binhdan.runtime.server.http.json_route import JsonRoute
from binhdan.runtime.server.http.sse import Frames, TextFrames
from binhdan.runtime.server.models.pool import LoadedModel
from binhdan.runtime.structured.tools import MAX_TOOLS, ToolPlan, plan_tools

router = APIRouter(route_class=JsonRoute)


# ---- schema ------------------------------------------------------------------------------------------------


class ChatBody(Sampling, Formed, Ignored):
    model: ModelName = None
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES)]
    max_tokens: Annotated[TokenCount, Field(validation_alias=MAX_TOKENS_NAMES)] = None
    max_completion_tokens: TokenCount = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int | None, Field(ge=0, le=20)] = None
    n_probs: Annotated[int | None, Field(ge=0, le=20), off(0)] = None  # llama.cpp's name of top_logprobs
    prompt_logprobs: PromptLogprobs = None  # vLLM's
    tools: Annotated[list[Tool] | None, Field(max_length=MAX_TOOLS)] = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    # OpenAI's API before tools. The answer then has function_call.
    functions: Annotated[list[Function] | None, Field(max_length=MAX_TOOLS)] = None
    function_call: Literal["none", "auto"] | NamedFunction | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: ReasoningEffort | None = None
    modalities: list[Literal["text"]] | None = None
    chat_template_kwargs: Annotated[JsonObject | None, Field(max_length=32)] = None
    add_generation_prompt: bool = True
    continue_final_message: bool = False  # the answer continues the last message, of the assistant

    @property
    def thinking(self) -> bool:
        """True if the model reasons before it answers. The default is false."""
        if self.chat_template_kwargs and "enable_thinking" in self.chat_template_kwargs:
            return bool(self.chat_template_kwargs["enable_thinking"])
        return thinks(self.reasoning_effort)

    @property
    def legacy(self) -> bool:
        """True if the request has OpenAI's fields from before tools."""
        return not self.tools and bool(self.functions)

    def tools_and_choice(self) -> tuple[list[JsonObject], str | JsonObject | None]:
        """`tools` and `tool_choice`, also from their older names."""
        choice = self.tool_choice
        if not self.legacy:
            tools = [tool.model_dump(exclude_none=True) for tool in self.tools or []]
            return tools, choice.model_dump() if isinstance(choice, NamedTool) else choice
        tools = [
            {"type": "function", "function": function.model_dump(exclude_none=True)}
            for function in self.functions or []
        ]
        call = self.function_call
        if isinstance(call, NamedFunction):
            return tools, {"type": "function", "function": {"name": call.name}}
        return tools, call


# ---- route -------------------------------------------------------------------------------------------------


@router.post("/v1/chat/completions")
@router.post("/chat/completions", include_in_schema=False)
async def create_chat_completion(request: Request, body: ChatBody) -> Response:
    """The assistant's next turn in a conversation."""
    if body.top_logprobs is not None and not body.logprobs:
        raise ApiError(400, "top_logprobs requires logprobs: true", param="top_logprobs")
    if body.prompt_logprobs is not None and body.stream:
        raise ApiError(400, "stream: expected false with prompt_logprobs", param="stream")
    return await respond(request, body.model, _ChatHandler(body), stream=bool(body.stream))


class _ChatHandler:
    """Plans and answers one request."""

    named_events = False
    prompt_param = "messages"

    def __init__(self, body: ChatBody) -> None:
        self._body = body
        self._tools: ToolPlan | None = None

    # ---- plan

    def plan(self, loaded: LoadedModel, caller: Caller) -> GenerationPlan:
        body, tokenizer = self._body, loaded.model.tokenizer
        tools, choice = body.tools_and_choice()
        form = body.spec()
        self._tools = plan_tools(
            tokenizer.chat_template_source,
            tools,
            choice,
            body.parallel_tool_calls is not False and not body.legacy,
            form,
        )
        prompt = render_prompt(
            tokenizer,
            body.messages,
            self._tools,
            body.thinking,
            body.chat_template_kwargs,
            add_generation_prompt=body.add_generation_prompt,
            continue_final_message=body.continue_final_message,
        )
        max_tokens = body.max_completion_tokens or body.max_tokens
        prompt = body.truncated(prompt, loaded.model.context, max_tokens)
        logprobs = (body.top_logprobs or 0) if body.logprobs else body.n_probs
        return GenerationPlan(
            prompts=[prompt],
            options=body.generation(tokenizer, max_tokens, logprobs, body.thinking),
            n=body.n or 1,
            new_mask=mask_factory(loaded, self._tools.spec or form, prompt),
            cache_salt=body.salt(caller),
            use_cache=body.cache_prompt,
            score_prompts=body.prompt_logprobs,
        )

    # ---- reply

    def to_json(self, lifecycle: RequestLifecycle) -> dict[str, Any]:
        """The chat.completion object."""
        choices = [self._choice(lifecycle, i, answer) for i, answer in enumerate(lifecycle.answers())]
        value = _object(lifecycle, "chat.completion", choices) | {"usage": lifecycle.usage()}
        if self._body.prompt_logprobs is not None:
            value["prompt_logprobs"] = vllm_prompt_logprobs(
                lifecycle.generation.prompt_logprobs[0], self._body.prompt_logprobs
            )
        return value | {"timings": timings(lifecycle.generation.answer(0))}

    async def to_frames(self, lifecycle: RequestLifecycle) -> Frames:
        """The chat.completion.chunk objects: role, deltas, finish reasons, usage."""
        generation = lifecycle.generation
        builders = [self._delta_builder() for _ in range(len(generation))]
        text_frames = [_text_frames(lifecycle, index) for index in range(len(generation))]
        ended: set[int] = set()
        plain = not self._body.timings_per_token

        def endings() -> list[dict[str, Any] | bytes]:
            """The last chunks of the answers that have ended since the last call."""
            values: list[dict[str, Any] | bytes] = []
            for index, builder in enumerate(builders):
                if generation.finished(index) and index not in ended:
                    ended.add(index)
                    values += [_chunk(lifecycle, index, delta) for delta in builder.finish()]
                    answer = generation.answer(index)
                    chunk = _chunk(lifecycle, index, {}, reason=_finish_reason(answer, builder))
                    chunk["choices"][0]["stop_reason"] = answer.stopped_by
                    values.append(chunk | {"timings": timings(answer)})
            return values

        yield [_chunk(lifecycle, i, {"role": "assistant", "content": ""}) for i in range(len(builders))]
        async for batch in generation.batches():
            values: list[dict[str, Any] | bytes] = []
            for index, piece in batch:
                # The common case, plain text, takes a path that encodes only the text.
                if plain and builders[index].content_only and piece.kind == "text" and piece.logprob is None:
                    if piece.text:
                        values.append(text_frames[index](piece.text))
                    continue
                logprobs = _logprobs(lifecycle, () if piece.logprob is None else (piece.logprob,))
                deltas = builders[index].push(piece)
                if not deltas and logprobs is not None:
                    deltas = [{}]
                for delta in deltas:
                    chunk = _chunk(lifecycle, index, delta, logprobs)
                    values.append(chunk if plain else chunk | {"timings": timings(generation.answer(index))})
                    logprobs = None
            yield values + endings()
        yield endings()
        if self._body.include_usage:
            end = {"usage": lifecycle.usage(), "timings": timings(generation.answer(0))}
            yield [_object(lifecycle, "chat.completion.chunk", []) | end]

    def _choice(self, lifecycle: RequestLifecycle, index: int, answer: Answer) -> dict[str, Any]:
        builder, message = self._delta_builder(), MessageBuilder()
        if answer.reasoning:
            message.add({"reasoning_content": answer.reasoning})
        for delta in [*builder.push(Piece(answer.text)), *builder.finish()]:
            message.add(delta)
        return {
            "index": index,
            "message": message.message(),
            "logprobs": _logprobs(lifecycle, answer.logprobs),
            "finish_reason": _finish_reason(answer, builder),
            "stop_reason": answer.stopped_by,
        }

    def _delta_builder(self) -> DeltaBuilder:
        parser = None if self._tools is None else self._tools.parser()
        return DeltaBuilder(parser, legacy=self._body.legacy)


# ---- OpenAI's objects --------------------------------------------------------------------------------------


def _logprobs(lifecycle: RequestLifecycle, tokens: Sequence[TokenLogprob] | None) -> dict[str, Any] | None:
    return chat_logprobs(lifecycle.loaded.model.tokenizer, tokens) if tokens else None


def _text_frames(lifecycle: RequestLifecycle, index: int) -> TextFrames:
    return TextFrames(lambda text: _chunk(lifecycle, index, {"content": text}))


def _finish_reason(answer: Answer, builder: DeltaBuilder) -> str:
    reason = FINISH_REASONS[answer.finish_reason]
    return builder.call_reason if builder.has_calls and reason == "stop" else reason


def _chunk(
    lifecycle: RequestLifecycle,
    index: int,
    delta: dict[str, Any],
    logprobs: dict[str, Any] | None = None,
    reason: str | None = None,
) -> dict[str, Any]:
    choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
    return _object(lifecycle, "chat.completion.chunk", [choice])


def _object(lifecycle: RequestLifecycle, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{lifecycle.id}",
        "object": kind,
        "created": lifecycle.created,
        "model": lifecycle.loaded.name,
        "system_fingerprint": FINGERPRINT,
        "choices": choices,
    }
