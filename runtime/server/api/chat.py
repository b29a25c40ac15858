"""/v1/chat/completions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, cast

from fastapi import APIRouter, Request, Response
from pydantic import AliasChoices, Field, model_validator

from binhdan.runtime.errors import BadFormatError
from binhdan.runtime.prompting.chat import Message
from binhdan.runtime.prompting.tokenizer import Prompt, Tokenizer
from binhdan.runtime.results import Answer, Piece, TokenLogprob
from binhdan.runtime.server.access.keys import Caller
from binhdan.runtime.server.answers.deltas import DeltaBuilder, MessageBuilder
from binhdan.runtime.server.answers.generation import GenerationPlan
from binhdan.runtime.server.answers.lifecycle import RequestLifecycle, respond
from binhdan.runtime.server.answers.logprobs import chat_logprobs
from binhdan.runtime.server.answers.response_format import mask_factory
from binhdan.runtime.server.api.body import Body, EchoedBody
from binhdan.runtime.server.api.common import (
    FINISH_REASONS,
    MAX_TOKENS_NAMES,
    Ignored,
    JsonObject,
    ModelName,
    ReasoningEffort,
    Sampling,
    TokenCount,
    off,
    thinks,
)
from binhdan.runtime.server.api.form import Formed
from binhdan.runtime.server.errors import ApiError
from binhdan.runtime.server.http.json_route import JsonRoute
from binhdan.runtime.server.http.sse import Frames, TextFrames
from binhdan.runtime.server.models.pool import LoadedModel
from binhdan.runtime.structured.tools import MAX_TOOLS, ToolPlan, plan_tools

MAX_MESSAGES = 4096
# A part of the name of a content part -> what it contains.
_OTHER_PARTS = {"image": "images", "audio": "sounds", "video": "videos", "file": "files"}

router = APIRouter(route_class=JsonRoute)


# ---- schema ------------------------------------------------------------------------------------------------


class ContentPart(EchoedBody):
    type: Literal["text", "input_text", "output_text", "refusal"]
    text: Annotated[str, Field(validation_alias=AliasChoices("text", "refusal"))]

    @model_validator(mode="before")
    @classmethod
    def _only_text(cls, part: Any) -> Any:
        kind = part.get("type") if isinstance(part, dict) else None
        for known, what in _OTHER_PARTS.items():
            if isinstance(kind, str) and known in kind:
                raise ValueError(f"{what} are not supported by this model; send text only")
        return part


class FunctionCall(EchoedBody):
    name: Annotated[str, Field(max_length=256)]
    arguments: str | JsonObject = "{}"


class ToolCall(EchoedBody):
    id: Annotated[str, Field(max_length=256)] = ""
    type: Literal["function"] = "function"
    function: FunctionCall


class ChatMessage(EchoedBody):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[ContentPart] | None = None
    reasoning_content: str | None = None
    name: Annotated[str | None, Field(max_length=256)] = None
    tool_calls: Annotated[list[ToolCall] | None, Field(max_length=MAX_TOOLS)] = None
    tool_call_id: Annotated[str | None, Field(max_length=256)] = None

    def message(self) -> Message:
        """The message for a chat template: content is one string, "developer" becomes "system"."""
        content = self.content
        if isinstance(content, list):
            content = "".join(part.text for part in content)
        if content is None and self.role == "assistant" and self.tool_calls:
            content = ""
        message = Message(role="system" if self.role == "developer" else self.role, content=content)
        if self.reasoning_content is not None:
            message["reasoning_content"] = self.reasoning_content
        if self.name is not None:
            message["name"] = self.name
        if self.tool_call_id is not None:
            message["tool_call_id"] = self.tool_call_id
        if self.tool_calls:
            message["tool_calls"] = [call.model_dump() for call in self.tool_calls]
        return message


class Function(Body):
    name: Annotated[str, Field(min_length=1, max_length=64)]
    description: Annotated[str | None, Field(max_length=16384)] = None
    parameters: JsonObject | None = None
    strict: bool | None = None


class Tool(Body):
    type: Literal["function"]
    function: Function


class NamedFunction(Body):
    name: str


class NamedTool(Body):
    type: Literal["function"]
    function: NamedFunction


class ChatBody(Sampling, Formed, Ignored):
    model: ModelName = None
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES)]
    max_tokens: Annotated[TokenCount, Field(validation_alias=MAX_TOKENS_NAMES)] = None
    max_completion_tokens: TokenCount = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int | None, Field(ge=0, le=20)] = None
    n_probs: Annotated[int | None, Field(ge=0, le=20), off(0)] = None  # llama.cpp's name of top_logprobs
    tools: Annotated[list[Tool] | None, Field(max_length=MAX_TOOLS)] = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
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


# ---- route -------------------------------------------------------------------------------------------------


@router.post("/v1/chat/completions")
async def create_chat_completion(request: Request, body: ChatBody) -> Response:
    """The assistant's next turn in a conversation."""
    if body.top_logprobs is not None and not body.logprobs:
        raise ApiError(400, "top_logprobs requires logprobs: true", param="top_logprobs")
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
        choice = body.tool_choice
        self._tools = plan_tools(
            tokenizer.chat_template_source,
            [tool.model_dump(exclude_none=True) for tool in body.tools or []],
            choice.model_dump() if isinstance(choice, NamedTool) else choice,
            body.parallel_tool_calls is not False,
        )
        spec = body.spec()
        if spec is not None and self._tools.spec is not None:
            raise ApiError(
                400,
                "response_format: a request has a response_format or tools, not both; remove one of them",
                param="response_format",
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
        prompt = body.truncated(prompt)
        logprobs = (body.top_logprobs or 0) if body.logprobs else body.n_probs
        return GenerationPlan(
            prompts=[prompt],
            options=body.generation(body.max_completion_tokens or body.max_tokens, logprobs, body.thinking),
            n=body.n or 1,
            new_mask=mask_factory(loaded, spec or self._tools.spec, prompt),
            cache_salt=body.salt(caller),
            use_cache=body.cache_prompt,
        )

    # ---- reply

    def to_json(self, lifecycle: RequestLifecycle) -> dict[str, Any]:
        """The chat.completion object."""
        choices = [self._choice(lifecycle, i, answer) for i, answer in enumerate(lifecycle.answers())]
        return _object(lifecycle, "chat.completion", choices) | {"usage": lifecycle.usage()}

    async def to_frames(self, lifecycle: RequestLifecycle) -> Frames:
        """The chat.completion.chunk objects: role, deltas, finish reasons, usage."""
        generation = lifecycle.generation
        builders = [self._delta_builder() for _ in range(len(generation))]
        text_frames = [_text_frames(lifecycle, index) for index in range(len(generation))]
        ended: set[int] = set()

        def endings() -> list[dict[str, Any] | bytes]:
            """The last chunks of the answers that have ended since the last call."""
            values: list[dict[str, Any] | bytes] = []
            for index, builder in enumerate(builders):
                if generation.finished(index) and index not in ended:
                    ended.add(index)
                    values += [_chunk(lifecycle, index, delta) for delta in builder.finish()]
                    reason = _finish_reason(generation.answer(index), builder)
                    values.append(_chunk(lifecycle, index, {}, reason=reason))
            return values

        yield [_chunk(lifecycle, i, {"role": "assistant", "content": ""}) for i in range(len(builders))]
        async for batch in generation.batches():
            values: list[dict[str, Any] | bytes] = []
            for index, piece in batch:
                # The common case, plain text, takes a path that encodes only the text.
                if builders[index].content_only and piece.kind == "text" and piece.logprob is None:
                    if piece.text:
                        values.append(text_frames[index](piece.text))
                    continue
                logprobs = _logprobs(lifecycle, () if piece.logprob is None else (piece.logprob,))
                deltas = builders[index].push(piece)
                if not deltas and logprobs is not None:
                    deltas = [{}]
                for delta in deltas:
                    values.append(_chunk(lifecycle, index, delta, logprobs))
                    logprobs = None
            yield values + endings()
        yield endings()
        if self._body.include_usage:
            yield [_object(lifecycle, "chat.completion.chunk", []) | {"usage": lifecycle.usage()}]

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
        }

    def _delta_builder(self) -> DeltaBuilder:
        return DeltaBuilder(None if self._tools is None else self._tools.parser())


# ---- shared with /v1/responses -----------------------------------------------------------------------------


def render_prompt(
    tokenizer: Tokenizer,
    messages: Sequence[ChatMessage],
    tools: ToolPlan,
    thinking: bool,
    template_options: JsonObject | None = None,
    *,
    add_generation_prompt: bool = True,
    continue_final_message: bool = False,
) -> Prompt:
    """The prompt of a conversation. Raises ApiError if the chat template cannot render it.

    With `continue_final_message` the prompt ends inside the last message, which is the assistant's.
    """
    start = ""
    if continue_final_message:
        *messages, last = messages
        if last.role != "assistant" or last.tool_calls or not messages:
            raise ApiError(
                400,
                "continue_final_message: expected a last message of the assistant, without tool calls, after "
                f"at least one other message; got the role {last.role}",
                param="continue_final_message",
            )
        start = last.message()["content"] or ""
    try:
        prompt = tokenizer.chat_prompt(
            cast("list[Message]", tools.messages([message.message() for message in messages])),
            add_generation_prompt=add_generation_prompt or continue_final_message,
            thinking=thinking,
            tools=tools.template_tools,
            template_options=template_options,
        )
    except BadFormatError:  # the template itself is valid: loading the model has rendered it
        raise ApiError(
            400,
            "messages: the model's chat template cannot render this conversation; "
            "check the order of the roles and chat_template_kwargs",
        ) from None
    return tokenizer.continued(prompt, start) if start else prompt


# ---- OpenAI's objects --------------------------------------------------------------------------------------


def _logprobs(lifecycle: RequestLifecycle, tokens: Sequence[TokenLogprob] | None) -> dict[str, Any] | None:
    return chat_logprobs(lifecycle.loaded.model.tokenizer, tokens) if tokens else None


def _text_frames(lifecycle: RequestLifecycle, index: int) -> TextFrames:
    return TextFrames(lambda text: _chunk(lifecycle, index, {"content": text}))


def _finish_reason(answer: Answer, builder: DeltaBuilder) -> str:
    reason = FINISH_REASONS[answer.finish_reason]
    return "tool_calls" if builder.has_calls and reason == "stop" else reason


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
        "choices": choices,
    }
