"""/v1/messages: Anthropic's API."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import Field, model_validator

from binhdan.runtime.options import GenerationOptions
from binhdan.runtime.prompting.tokenizer import Prompt, Tokenizer
from binhdan.runtime.results import Answer, Piece
from binhdan.runtime.server.access.keys import Caller
from binhdan.runtime.server.answers.content_blocks import ContentBlocks
from binhdan.runtime.server.answers.generation import GenerationPlan
from binhdan.runtime.server.answers.lifecycle import RequestLifecycle, respond
from binhdan.runtime.server.answers.response_format import mask_factory
from binhdan.runtime.server.api.body import Body, EchoedBody, RequestBody
from binhdan.runtime.server.api.common import (
    MAX_STOPS,
    JsonObject,
    ModelName,
    StopText,
    TokenCount,
    nfc,
    off,
    top_p,
)
from binhdan.runtime.server.api.conversation import (
    MAX_MESSAGES,
    ChatMessage,
    FunctionCall,
    ToolCall,
    render_prompt,
)
from binhdan.runtime.server.context import server_of
from binhdan.runtime.server.http import fields
from binhdan.runtime.server.http.json_route import JsonRoute
from binhdan.runtime.server.http.sse import Frames
from binhdan.runtime.server.models.pool import LoadedModel
from binhdan.runtime.structured import constraints
from binhdan.runtime.structured.tools import MAX_TOOLS, ToolPlan, plan_tools

router = APIRouter(route_class=JsonRoute)


# ---- schema ------------------------------------------------------------------------------------------------


class TextBlock(EchoedBody):
    type: Literal["text"] = "text"
    text: str = ""


class Block(EchoedBody):
    """A content block of a message."""

    type: Literal["text", "tool_use", "tool_result", "thinking", "redacted_thinking"]
    text: str = ""
    thinking: str = ""
    # of tool_use
    id: Annotated[str, Field(max_length=256)] = ""
    name: Annotated[str, Field(max_length=256)] = ""
    input: JsonObject | None = None
    # of tool_result
    tool_use_id: Annotated[str, Field(max_length=256)] = ""
    content: str | list[Block] = ""

    @model_validator(mode="before")
    @classmethod
    def _only_text(cls, block: Any) -> Any:
        kind = block.get("type") if isinstance(block, dict) else None
        if kind in ("image", "document"):
            raise ValueError(f"{kind}s are not supported by this model; send text only")
        return block

    def plain(self) -> str:
        """The text of a text block, or of a result."""
        if self.type != "tool_result" or isinstance(self.content, str):
            return self.text or (self.content if isinstance(self.content, str) else "")
        return "".join(block.plain() for block in self.content)


class InputMessage(EchoedBody):
    role: Literal["user", "assistant", "system"]
    content: str | list[Block]

    def messages(self) -> list[ChatMessage]:
        """The same in OpenAI's form: results of tools are messages of their own, before the user's text."""
        if isinstance(self.content, str):
            return [ChatMessage(role=self.role, content=self.content)]
        text = "".join(block.text for block in self.content if block.type == "text")
        results = [
            ChatMessage(role="tool", tool_call_id=block.tool_use_id, content=block.plain())
            for block in self.content
            if block.type == "tool_result"
        ]
        if self.role != "assistant":
            return results + ([ChatMessage(role=self.role, content=text)] if text or not results else [])
        calls = [
            ToolCall(id=block.id, function=FunctionCall(name=block.name, arguments=block.input or {}))
            for block in self.content
            if block.type == "tool_use"
        ]
        thoughts = "".join(block.thinking for block in self.content) or None
        return [
            ChatMessage(role="assistant", content=text, tool_calls=calls or None, reasoning_content=thoughts)
        ]


class Tool(Body):
    type: Literal["custom"] = "custom"
    name: Annotated[str, Field(min_length=1, max_length=64)]
    description: Annotated[str | None, Field(max_length=16384)] = None
    input_schema: JsonObject
    strict: bool | None = None
    cache_control: JsonObject | None = None  # accepted and ignored: all prompts use the prefix cache

    def function(self) -> JsonObject:
        """The same in OpenAI's form."""
        function: JsonObject = {"name": self.name, "parameters": self.input_schema, "strict": self.strict}
        if self.description:
            function["description"] = self.description
        return {"type": "function", "function": function}


class ToolChoice(Body):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool = False

    def openai(self) -> str | JsonObject:
        """The same in OpenAI's form."""
        if self.type == "tool":
            return {"type": "function", "function": {"name": self.name}}
        return {"auto": "auto", "any": "required", "none": "none"}[self.type]


class Thinking(Body):
    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: int | None = None
    display: str | None = None


class OutputFormat(Body):
    type: Literal["json_schema"]
    schema_: Annotated[JsonObject, Field(alias="schema")]


class OutputConfig(Body):
    format: OutputFormat | None = None
    effort: str | None = None


class PromptBody(RequestBody):
    """The fields that make the prompt."""

    model: ModelName = None
    messages: Annotated[list[InputMessage], Field(min_length=1, max_length=MAX_MESSAGES)]
    system: str | list[TextBlock] | None = None
    tools: Annotated[list[Tool] | None, Field(max_length=MAX_TOOLS)] = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = None
    cache_control: JsonObject | None = None

    @model_validator(mode="before")
    @classmethod
    def _only_custom_tools(cls, data: Any) -> Any:
        """Drops the tools that Anthropic runs itself, such as web_search_20250305."""
        tools = data.get("tools") if isinstance(data, dict) else None
        if not isinstance(tools, list):
            return data
        kept = []
        for i, tool in enumerate(tools):
            if (
                isinstance(tool, dict)
                and tool.get("type") not in (None, "custom")
                and "input_schema" not in tool
            ):
                fields.ignore(f"tools[{i}]", "this server has only tools of type custom")
            else:
                kept.append(tool)
        return data | {"tools": kept}

    @property
    def thinks(self) -> bool:
        return self.thinking is not None and self.thinking.type != "disabled"

    def conversation(self) -> list[ChatMessage]:
        """The messages in OpenAI's form, the system prompt first."""
        system = self.system
        if isinstance(system, list):
            system = "\n\n".join(block.text for block in system)
        messages = [ChatMessage(role="system", content=system)] if system else []
        return messages + [one for message in self.messages for one in message.messages()]

    def plan(self, tokenizer: Tokenizer) -> tuple[Prompt, ToolPlan, constraints.Spec | None]:
        """The prompt, the tools, and the constraint of the answer."""
        form = self.output_format or (self.output_config.format if self.output_config else None)
        spec = None
        if form is not None:
            spec = constraints.json_schema(form.schema_, "output_format.schema", strict=False)
        choice = self.tool_choice
        tools = plan_tools(
            tokenizer.chat_template_source,
            [tool.function() for tool in self.tools or ()],
            None if choice is None else choice.openai(),
            choice is None or not choice.disable_parallel_tool_use,
            spec,
        )
        messages = self.conversation()
        # The answer continues a last message of the assistant.
        begun = len(messages) > 1 and messages[-1].role == "assistant" and not messages[-1].tool_calls
        prompt = render_prompt(
            tokenizer, messages, tools, self.thinks and not begun, continue_final_message=begun
        )
        return prompt, tools, tools.spec or spec


class MessagesBody(PromptBody):
    max_tokens: TokenCount = None
    metadata: JsonObject | None = None  # accepted and ignored, as the fields up to `inference_geo`
    service_tier: str | None = None
    container: Any = None
    inference_geo: str | None = None
    stop_sequences: Annotated[list[StopText] | None, Field(max_length=MAX_STOPS)] = None
    stream: bool | None = None
    temperature: Annotated[float | None, Field(ge=0, le=100)] = None
    top_k: Annotated[int | None, Field(ge=0, lt=2**31), off(-1)] = None
    top_p: Annotated[float | None, Field(ge=0, le=1), off(-1)] = None

    def generation(self) -> GenerationOptions:
        """The engine's options."""
        return GenerationOptions(
            max_tokens=self.max_tokens,
            temperature=self.temperature or 0.0,
            top_k=self.top_k or 0,
            top_p=top_p(self.top_p),
            stop=tuple(map(nfc, self.stop_sequences or ())),
            thinking=self.thinks,
        )


# ---- routes ------------------------------------------------------------------------------------------------


@router.post("/v1/messages")
async def create_message(request: Request, body: MessagesBody) -> Response:
    """The assistant's next turn in a conversation."""
    return await respond(request, body.model, _MessageHandler(body), stream=bool(body.stream))


@router.post("/v1/messages/count_tokens")
async def count_tokens(request: Request, body: PromptBody) -> dict[str, int]:
    """The number of tokens of the prompt."""
    async with server_of(request).pool.use(body.model) as loaded:
        prompt, _, _ = await asyncio.to_thread(body.plan, loaded.model.tokenizer)
    return {"input_tokens": len(prompt.tokens)}


class _MessageHandler:
    """Plans and answers one request."""

    named_events = True
    prompt_param = "messages"

    def __init__(self, body: MessagesBody) -> None:
        self._body = body
        self._tools: ToolPlan | None = None

    def plan(self, loaded: LoadedModel, caller: Caller) -> GenerationPlan:
        prompt, self._tools, spec = self._body.plan(loaded.model.tokenizer)
        return GenerationPlan(
            prompts=[prompt],
            options=self._body.generation(),
            new_mask=mask_factory(loaded, spec, prompt),
            cache_salt=caller.salt,
        )

    def to_json(self, lifecycle: RequestLifecycle) -> dict[str, Any]:
        """The message object."""
        answer, blocks = lifecycle.generation.answer(0), self._blocks()
        if answer.reasoning:
            list(blocks.push(Piece(answer.reasoning, "reasoning")))
        list(blocks.push(Piece(answer.text)))
        list(blocks.finish())
        return self._message(lifecycle, blocks.blocks) | self._end(lifecycle, answer, blocks)

    async def to_frames(self, lifecycle: RequestLifecycle) -> Frames:
        """The events of the message: start, the blocks, stop."""
        blocks = self._blocks()
        yield [{"type": "message_start", "message": self._message(lifecycle, [])}, {"type": "ping"}]
        async for batch in lifecycle.generation.batches():
            yield [event for _, piece in batch for event in blocks.push(piece)]
        events: list[dict[str, Any] | bytes] = list(blocks.finish())
        end = self._end(lifecycle, lifecycle.generation.answer(0), blocks)
        usage = end.pop("usage")
        yield [*events, {"type": "message_delta", "delta": end, "usage": usage}, {"type": "message_stop"}]

    def _blocks(self) -> ContentBlocks:
        return ContentBlocks(None if self._tools is None else self._tools.parser())

    def _message(self, lifecycle: RequestLifecycle, content: list[dict[str, Any]]) -> dict[str, Any]:
        tokens = lifecycle.plan.prompt_tokens
        return {
            "id": f"msg_{lifecycle.id}",
            "type": "message",
            "role": "assistant",
            "model": lifecycle.loaded.name,
            "content": content,
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": tokens, "output_tokens": 0},
        }

    def _end(self, lifecycle: RequestLifecycle, answer: Answer, blocks: ContentBlocks) -> dict[str, Any]:
        """Why the message ended, and its usage."""
        stop = None
        if answer.finish_reason == "invalid":
            reason = "refusal"
        elif answer.finish_reason != "stop":
            reason = "max_tokens"
        elif blocks.has_calls:
            reason = "tool_use"
        elif stop := self._stop_sequence(lifecycle, answer):
            reason = "stop_sequence"
        else:
            reason = "end_turn"
        usage = lifecycle.usage()
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        return {
            "stop_reason": reason,
            "stop_sequence": stop,
            "usage": {
                "input_tokens": usage["prompt_tokens"] - cached,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": cached,
                "output_tokens": usage["completion_tokens"],
                "binhdan": usage["binhdan"],
            },
        }

    def _stop_sequence(self, lifecycle: RequestLifecycle, answer: Answer) -> str | None:
        """The stop sequence that ended the answer; None for an end token."""
        stops = self._body.stop_sequences
        if not stops:
            return None
        # The text of an answer excludes the stop sequence; its tokens include it.
        text = lifecycle.loaded.model.detokenize(answer.tokens)
        return next((stop for stop in stops if nfc(stop) in text), None)
