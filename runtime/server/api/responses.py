"""/v1/responses: texts and tool calls. Responses are not stored."""

from __future__ import annotations

from itertools import count
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import Field, field_validator, model_validator

from binhdan.runtime.options import GenerationOptions
from binhdan.runtime.results import Answer, Piece
from binhdan.runtime.server.access.keys import Caller
from binhdan.runtime.server.answers.generation import GenerationPlan
from binhdan.runtime.server.answers.lifecycle import RequestLifecycle, respond
from binhdan.runtime.server.answers.logprobs import chat_logprobs
from binhdan.runtime.server.answers.output_items import OutputItems
from binhdan.runtime.server.answers.response_format import FormatType, constraint_spec, mask_factory
from binhdan.runtime.server.api.body import Body, EchoedBody
from binhdan.runtime.server.api.common import (
    Ignored,
    JsonObject,
    ModelName,
    ReasoningEffort,
    TokenCount,
    thinks,
    top_p,
)
from binhdan.runtime.server.api.conversation import (
    MAX_MESSAGES,
    ChatMessage,
    ContentPart,
    FunctionCall,
    ToolCall,
    render_prompt,
)
from binhdan.runtime.server.errors import ApiError
from binhdan.runtime.server.http import fields
from binhdan.runtime.server.http.json_route import JsonRoute
from binhdan.runtime.server.http.sse import Frames
from binhdan.runtime.server.models.pool import LoadedModel
from binhdan.runtime.structured.constraints import Spec
from binhdan.runtime.structured.tools import MAX_TOOLS, ToolPlan, plan_tools

router = APIRouter(route_class=JsonRoute)


# ---- schema ------------------------------------------------------------------------------------------------


class InputItem(EchoedBody):
    """A message, or an output item of an earlier response that the client sends back unchanged."""

    type: Literal["message", "reasoning", "function_call", "function_call_output"] = "message"
    role: Literal["system", "developer", "user", "assistant"] = "user"
    content: str | list[ContentPart] | None = None
    # Of calls and their results.
    call_id: Annotated[str, Field(max_length=256)] = ""
    name: Annotated[str, Field(max_length=256)] = ""
    arguments: str | JsonObject = "{}"
    output: str | list[ContentPart] = ""

    @model_validator(mode="before")
    @classmethod
    def _no_reference(cls, item: Any) -> Any:
        if isinstance(item, dict) and item.get("type") == "item_reference":
            raise ValueError("this server stores no items: send the item itself")
        return item


class FunctionTool(Body):
    type: Literal["function"]
    name: Annotated[str, Field(min_length=1, max_length=64)]
    description: Annotated[str | None, Field(max_length=16384)] = None
    parameters: JsonObject | None = None
    strict: bool | None = None


class NamedTool(Body):
    type: Literal["function"]
    name: str


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
        return constraint_spec(
            self.type,
            schema=self.schema_,
            strict=self.strict,
            pattern=self.pattern,
            grammar=self.grammar,
        )


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
    truncation: Literal["disabled", "auto"] | None = None
    tools: Annotated[list[FunctionTool] | None, Field(max_length=MAX_TOOLS)] = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    max_tool_calls: int | None = None
    # Refused by `unsupported`, with a message for each.
    previous_response_id: str | None = None
    conversation: Any = None
    prompt: Any = None
    background: bool | None = None

    @property
    def effort(self) -> ReasoningEffort | None:
        return self.reasoning.effort if self.reasoning else None

    @field_validator("tools", mode="before")
    @classmethod
    def _only_functions(cls, tools: Any) -> Any:
        """Drops the tools that OpenAI runs itself, such as web_search."""
        if not isinstance(tools, list):
            return tools
        for i, tool in enumerate(tools):
            kind = tool.get("type", "function") if isinstance(tool, dict) else "function"
            if kind != "function":
                fields.ignore(f"tools[{i}]", "this server has only tools of type function")
        return [
            tool for tool in tools if not isinstance(tool, dict) or tool.get("type", "function") == "function"
        ]

    def messages(self) -> list[ChatMessage]:
        """The conversation: the instructions as a system message, then the input."""
        messages = []
        if self.instructions:
            messages.append(ChatMessage(role="system", content=self.instructions))
        if isinstance(self.input, str):
            return [*messages, ChatMessage(role="user", content=self.input)]
        for item in self.input:
            match item.type:
                case "message":
                    messages.append(ChatMessage(role=item.role, content=item.content))
                case "function_call":
                    function = FunctionCall(name=item.name, arguments=item.arguments)
                    call = ToolCall(id=item.call_id, function=function)
                    # The calls of one answer are one message, together with its text.
                    if messages and messages[-1].role == "assistant":
                        last = messages.pop()
                    else:
                        last = ChatMessage(role="assistant")
                    calls = [*(last.tool_calls or []), call]
                    messages.append(last.model_copy(update={"tool_calls": calls}))
                case "function_call_output":
                    messages.append(ChatMessage(role="tool", tool_call_id=item.call_id, content=item.output))
                case "reasoning":
                    pass  # no part of the prompt
        return messages

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
        return None


# ---- route -------------------------------------------------------------------------------------------------


@router.post("/v1/responses")
@router.post("/responses", include_in_schema=False)
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
        self._tools: ToolPlan | None = None

    # ---- plan

    def plan(self, loaded: LoadedModel, caller: Caller) -> GenerationPlan:
        body, tokenizer = self._body, loaded.model.tokenizer
        form, options = body.text.format.spec(), body.generation()
        choice = body.tool_choice
        self._tools = plan_tools(
            tokenizer.chat_template_source,
            [tool.model_dump(exclude_none=True) for tool in body.tools or ()],
            choice.model_dump() if isinstance(choice, NamedTool) else choice,
            body.parallel_tool_calls is not False,
            form,
        )
        prompt = render_prompt(tokenizer, body.messages(), self._tools, options.thinking)
        return GenerationPlan(
            prompts=[prompt],
            options=options,
            new_mask=mask_factory(loaded, self._tools.spec or form, prompt),
            cache_salt=caller.salt,
        )

    # ---- reply

    def to_json(self, lifecycle: RequestLifecycle) -> dict[str, Any]:
        answer, items = lifecycle.generation.answer(0), self._items(lifecycle)
        events = [items.push(Piece(answer.reasoning, "reasoning"))] if answer.reasoning else []
        for event in [*events, items.push(Piece(answer.text))]:
            list(event)
        items.add_logprobs(answer.logprobs or ())
        list(items.finish(_status(answer)))
        return self._response(lifecycle, _status(answer), items.items, lifecycle.usage())

    async def to_frames(self, lifecycle: RequestLifecycle) -> Frames:
        sequence = count()

        def event(kind: str, fields: dict[str, Any]) -> dict[str, Any] | bytes:
            return {"type": kind, "sequence_number": next(sequence), **fields}

        begun = {"response": self._response(lifecycle, "in_progress", [], None)}
        yield [event("response.created", begun), event("response.in_progress", begun)]
        items = self._items(lifecycle)
        async for batch in lifecycle.generation.batches():
            yield [event(*one) for _, piece in batch for one in items.push(piece)]
        status = _status(lifecycle.generation.answer(0))
        values = [event(*one) for one in items.finish(status)]
        response = self._response(lifecycle, status, items.items, lifecycle.usage())
        yield [*values, event(f"response.{status}", {"response": response})]

    def _items(self, lifecycle: RequestLifecycle) -> OutputItems:
        tokenizer = lifecycle.loaded.model.tokenizer
        parser = None if self._tools is None else self._tools.parser()
        return OutputItems(
            lifecycle.id, parser, lambda tokens: list(chat_logprobs(tokenizer, tokens)["content"])
        )

    def _response(
        self,
        lifecycle: RequestLifecycle,
        status: str,
        output: list[dict[str, Any]],
        usage: dict[str, Any] | None,
    ) -> dict[str, Any]:
        """The response object. `usage` None: not yet known."""
        body, choice = self._body, self._body.tool_choice
        incomplete = None
        if status == "incomplete":
            invalid = any(answer.finish_reason == "invalid" for answer in lifecycle.answers())
            incomplete = {"reason": "content_filter" if invalid else "max_output_tokens"}
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
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "previous_response_id": None,
            "reasoning": {"effort": body.effort, "summary": None},
            "store": False,
            "temperature": body.temperature or 0.0,
            "text": {"format": body.text.format.model_dump(by_alias=True, exclude_none=True)},
            "tool_choice": choice.model_dump() if isinstance(choice, NamedTool) else choice or "auto",
            "tools": [tool.model_dump() for tool in body.tools or ()],
            "top_p": 1.0 if body.top_p is None else body.top_p,
            "truncation": "disabled",
            "usage": None if usage is None else _usage(usage),
            "user": body.user,
        }


# ---- OpenAI's objects --------------------------------------------------------------------------------------


def _status(answer: Answer) -> str:
    return "completed" if answer.finish_reason == "stop" else "incomplete"


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
