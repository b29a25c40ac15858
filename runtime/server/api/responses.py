"""/v1/responses: text in, text out. Responses are not stored."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import Field, model_validator

from binhdan.runtime.options import GenerationOptions
from binhdan.runtime.results import Answer
from binhdan.runtime.server.access.keys import Caller
from binhdan.runtime.server.answers.generation import GenerationPlan
from binhdan.runtime.server.answers.lifecycle import RequestLifecycle, respond
from binhdan.runtime.server.answers.logprobs import chat_logprobs
from binhdan.runtime.server.answers.response_format import FormatType, constraint_spec, mask_factory
from binhdan.runtime.server.api.body import Body, EchoedBody
from binhdan.runtime.server.api.chat import MAX_MESSAGES, ChatMessage, ContentPart, render_prompt
from binhdan.runtime.server.api.common import (
    Ignored,
    JsonObject,
    ModelName,
    ReasoningEffort,
    TokenCount,
    thinks,
    top_p,
)
from binhdan.runtime.server.errors import ApiError
from binhdan.runtime.server.http.json_route import JsonRoute
from binhdan.runtime.server.http.sse import Frames
from binhdan.runtime.server.models.pool import LoadedModel
from binhdan.runtime.structured.constraints import Spec
from binhdan.runtime.structured.tools import plan_tools

router = APIRouter(route_class=JsonRoute)


# ---- schema ------------------------------------------------------------------------------------------------


class InputItem(EchoedBody):
    """A message, or an output item of an earlier response that the client sends back unchanged."""

    type: Literal["message", "reasoning"] = "message"
    role: Literal["system", "developer", "user", "assistant"] = "user"
    content: str | list[ContentPart] | None = None
    id: str | None = None
    status: str | None = None
    summary: list[Any] | None = None
    phase: str | None = None

    def message(self) -> ChatMessage | None:
        """None for reasoning, which is not part of the prompt."""
        if self.type == "reasoning":
            return None
        return ChatMessage(role=self.role, content=self.content)


class TextFormat(Body):
    """The response_format of /v1/chat/completions, with the fields of json_schema one level higher."""

    type: FormatType = "text"
    name: Annotated[str, Field(max_length=256)] = ""
    description: str | None = None
    schema_: Annotated[JsonObject | None, Field(alias="schema")] = None
    strict: bool | None = None
    pattern: str | None = None
    grammar: str | None = None

    @model_validator(mode="after")
    def _has_schema(self) -> TextFormat:
        if self.type == "json_schema" and self.schema_ is None:
            raise ValueError("type json_schema requires a schema")
        return self

    def spec(self) -> Spec | None:
        """The constraint of the answer; None for free text. Raises InvalidArgumentError."""
        return constraint_spec(self.type, schema=self.schema_, pattern=self.pattern, grammar=self.grammar)


class TextSettings(Body):
    format: TextFormat = TextFormat()
    verbosity: str | None = None


class Reasoning(Body):
    effort: ReasoningEffort | None = None
    summary: str | None = None
    generate_summary: str | None = None


class ResponseBody(Ignored):
    model: ModelName = None
    input: str | Annotated[list[InputItem], Field(min_length=1, max_length=MAX_MESSAGES)]
    instructions: str | None = None
    max_output_tokens: TokenCount = None
    temperature: Annotated[float | None, Field(ge=0, le=2)] = None
    top_p: Annotated[float | None, Field(ge=0, le=1)] = None
    top_logprobs: Annotated[int | None, Field(ge=0, le=20)] = None
    text: TextSettings = TextSettings()
    reasoning: Reasoning | None = None
    stream: bool | None = None
    stream_options: JsonObject | None = None
    include: Annotated[list[str] | None, Field(max_length=16)] = None
    truncation: Literal["disabled"] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    max_tool_calls: int | None = None
    # Refused by `unsupported`, with a message for each.
    previous_response_id: str | None = None
    conversation: Any = None
    prompt: Any = None
    background: bool | None = None
    tools: list[Any] | None = None

    @property
    def effort(self) -> ReasoningEffort | None:
        return self.reasoning.effort if self.reasoning else None

    def messages(self) -> list[ChatMessage]:
        """The conversation: the instructions as a system message, then the input."""
        messages = []
        if self.instructions:
            messages.append(ChatMessage(role="system", content=self.instructions))
        if isinstance(self.input, str):
            return [*messages, ChatMessage(role="user", content=self.input)]
        return messages + [message for item in self.input if (message := item.message()) is not None]

    def generation(self) -> GenerationOptions:
        """The engine's options."""
        wants_logprobs = "message.output_text.logprobs" in (self.include or ())
        return GenerationOptions(
            max_tokens=self.max_output_tokens,
            temperature=self.temperature or 0.0,
            top_p=top_p(self.top_p),
            logprobs=(self.top_logprobs or 0) if wants_logprobs else None,
            thinking=thinks(self.effort),
        )

    def unsupported(self) -> tuple[str, str] | None:
        """A field that this server does not support, and what to do instead; None if there is none."""
        if self.previous_response_id is not None:
            return "previous_response_id", "this server stores no responses: send the conversation in input"
        if self.conversation is not None:
            return "conversation", "this server stores no conversations: send the messages in input"
        if self.prompt is not None:
            return "prompt", "this server stores no prompts: send instructions and input"
        if self.background:
            return "background", "this server stores no responses: wait for this response, or stream it"
        if self.tools:
            return "tools", "this endpoint has no tools: use /v1/chat/completions"
        return None


# ---- route -------------------------------------------------------------------------------------------------


@router.post("/v1/responses")
async def create_response(request: Request, body: ResponseBody) -> Response:
    """The answer to a text or a conversation."""
    if (unsupported := body.unsupported()) is not None:
        field, message = unsupported
        raise ApiError(400, f"{field}: {message}", code="unsupported_parameter", param=field)
    return await respond(request, body.model, _ResponseHandler(body), stream=bool(body.stream))


class _ResponseHandler:
    """Plans and answers one request: as a response object, or as the events that build it."""

    named_events = True
    prompt_param = "input"

    def __init__(self, body: ResponseBody) -> None:
        self._body = body

    # ---- plan

    def plan(self, loaded: LoadedModel, caller: Caller) -> GenerationPlan:
        body, tokenizer = self._body, loaded.model.tokenizer
        spec, options = body.text.format.spec(), body.generation()
        no_tools = plan_tools(tokenizer.chat_template_source)
        prompt = render_prompt(tokenizer, body.messages(), no_tools, options.thinking)
        return GenerationPlan(
            prompts=[prompt],
            options=options,
            new_mask=mask_factory(loaded, spec, prompt),
            cache_salt=caller.salt,
        )

    # ---- reply

    def to_json(self, lifecycle: RequestLifecycle) -> dict[str, Any]:
        answer = lifecycle.generation.answer(0)
        return self._response(lifecycle, _status(answer), _output(lifecycle, answer), lifecycle.usage())

    async def to_frames(self, lifecycle: RequestLifecycle) -> Frames:
        sequence = count()

        def event(kind: str, **fields: Any) -> dict[str, Any]:
            return {"type": kind, "sequence_number": next(sequence), **fields}

        begun = self._response(lifecycle, "in_progress", [], None)
        yield [event("response.created", response=begun), event("response.in_progress", response=begun)]
        items = _Items(lifecycle)
        async for batch in lifecycle.generation.batches():
            values: list[dict[str, Any] | bytes] = []
            for _, piece in batch:
                if not piece.text:
                    continue
                values += [event(kind, **fields) for kind, fields in items.open(piece.kind)]
                delta: dict[str, Any] = {"delta": piece.text}
                if piece.kind == "text":
                    tokens = [piece.logprob] if piece.logprob is not None else []
                    delta["logprobs"] = chat_logprobs(lifecycle.loaded.model.tokenizer, tokens)["content"]
                values.append(event(items.delta_event, **items.position, **delta))
            yield values
        answer = lifecycle.generation.answer(0)
        values = [event(kind, **fields) for kind, fields in items.open("text")]
        values += [event(kind, **fields) for kind, fields in items.close(answer)]
        status = _status(answer)
        response = self._response(lifecycle, status, _output(lifecycle, answer), lifecycle.usage())
        yield [*values, event(f"response.{status}", response=response)]

    def _response(
        self,
        lifecycle: RequestLifecycle,
        status: str,
        output: list[dict[str, Any]],
        usage: dict[str, Any] | None,
    ) -> dict[str, Any]:
        """The response object. `usage` None: not yet known."""
        body = self._body
        incomplete = {"reason": "max_output_tokens"} if status == "incomplete" else None
        return {
            "id": f"resp_{lifecycle.id}",
            "object": "response",
            "created_at": lifecycle.created,
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": incomplete,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "metadata": body.metadata or {},
            "model": lifecycle.loaded.name,
            "output": output,
            "parallel_tool_calls": True,
            "previous_response_id": None,
            "reasoning": {"effort": body.effort, "summary": None},
            "store": False,
            "temperature": body.temperature or 0.0,
            "text": {"format": body.text.format.model_dump(by_alias=True, exclude_none=True)},
            "tool_choice": "none",
            "tools": [],
            "top_p": 1.0 if body.top_p is None else body.top_p,
            "truncation": "disabled",
            "usage": None if usage is None else _usage(usage),
            "user": body.user,
        }


class _Items:
    """The output items of a stream. The first piece of a kind opens an item; a piece of another kind, or the
    end of the answer, closes it."""

    def __init__(self, lifecycle: RequestLifecycle) -> None:
        self._lifecycle = lifecycle
        self._kinds: list[str] = []  # "reasoning" or "text", of each item

    @property
    def delta_event(self) -> str:
        return f"response.{self._part_kind()}.delta"

    @property
    def position(self) -> dict[str, Any]:
        """The fields that locate the open item's only part."""
        index = len(self._kinds) - 1
        return {"item_id": self._item("")["id"], "output_index": index, "content_index": 0}

    def open(self, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """The events that make an item of this kind the open one."""
        if self._kinds and self._kinds[-1] == kind:
            return
        if self._kinds:
            yield from self._close(self._lifecycle.generation.answer(0).reasoning, "completed")
        self._kinds.append(kind)
        yield (
            "response.output_item.added",
            {"output_index": self.position["output_index"], "item": self._item(None)},
        )
        yield "response.content_part.added", {**self.position, "part": self._part("")}

    def close(self, answer: Answer) -> Iterator[tuple[str, dict[str, Any]]]:
        """The events that end the last item."""
        yield from self._close(answer.text, _status(answer))

    def _close(self, text: str, status: str) -> Iterator[tuple[str, dict[str, Any]]]:
        extra: dict[str, Any] = {"logprobs": []} if self._kinds[-1] == "text" else {}
        yield f"response.{self._part_kind()}.done", {**self.position, "text": text, **extra}
        yield "response.content_part.done", {**self.position, "part": self._part(text)}
        item = self._item(text, status)
        yield "response.output_item.done", {"output_index": self.position["output_index"], "item": item}

    def _part_kind(self) -> str:
        return "output_text" if self._kinds[-1] == "text" else "reasoning_text"

    def _part(self, text: str) -> dict[str, Any]:
        return _text_part(text, []) if self._kinds[-1] == "text" else {"type": "reasoning_text", "text": text}

    def _item(self, text: str | None, status: str = "in_progress") -> dict[str, Any]:
        """The open item. `text` None: without its part."""
        if self._kinds[-1] == "text":
            item = _message_item(self._lifecycle, text or "", status, [])
        else:
            item = _reasoning_item(self._lifecycle, text or "")
        return item | {"content": []} if text is None else item


# ---- OpenAI's objects --------------------------------------------------------------------------------------


def _status(answer: Answer) -> str:
    return "completed" if answer.finish_reason == "stop" else "incomplete"


def _output(lifecycle: RequestLifecycle, answer: Answer) -> list[dict[str, Any]]:
    items = []
    if answer.reasoning:
        items.append(_reasoning_item(lifecycle, answer.reasoning))
    logprobs = []
    if answer.logprobs is not None:
        logprobs = chat_logprobs(lifecycle.loaded.model.tokenizer, answer.logprobs)["content"]
    return [*items, _message_item(lifecycle, answer.text, _status(answer), logprobs)]


def _text_part(text: str, logprobs: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}


def _message_item(
    lifecycle: RequestLifecycle, text: str, status: str, logprobs: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "id": f"msg_{lifecycle.id}",
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": [_text_part(text, logprobs)],
    }


def _reasoning_item(lifecycle: RequestLifecycle, text: str) -> dict[str, Any]:
    return {
        "id": f"rs_{lifecycle.id}",
        "type": "reasoning",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": text}],
    }


def _usage(usage: dict[str, Any]) -> dict[str, Any]:
    """The usage of a chat completion under the names of /v1/responses."""
    return {
        "input_tokens": usage["prompt_tokens"],
        "input_tokens_details": usage["prompt_tokens_details"],
        "output_tokens": usage["completion_tokens"],
        "output_tokens_details": usage["completion_tokens_details"],
        "total_tokens": usage["total_tokens"],
        "binhdan": usage["binhdan"],
    }
