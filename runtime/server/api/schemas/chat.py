"""/v1/chat/completions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from binhdan.runtime.prompting.chat import Message
from binhdan.runtime.server.api.schemas.common import Body, Ignored, JsonObject, ReasoningEffort, Sampling

MOST_MESSAGES = 4096
MAX_TOOLS = 128


class TextPart(Body):
    type: Literal["text", "input_text", "output_text"]
    text: str
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None


class FunctionCall(Body):
    name: Annotated[str, Field(max_length=256)]
    arguments: str = "{}"


class ToolCall(Body):
    id: Annotated[str, Field(max_length=256)] = ""
    type: Literal["function"] = "function"
    function: FunctionCall
    index: int | None = None


class ChatMessage(Body):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    name: Annotated[str | None, Field(max_length=256)] = None
    tool_calls: Annotated[list[ToolCall] | None, Field(max_length=MAX_TOOLS)] = None
    tool_call_id: Annotated[str | None, Field(max_length=256)] = None
    # What an assistant's message may hold when clients send it back as it came.
    annotations: list[Any] | None = None
    audio: None = None
    function_call: None = None

    def message(self) -> Message:
        """As the chat template takes it: content one string, "developer" is "system"."""
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
            message["tool_calls"] = [call.model_dump(exclude={"index"}) for call in self.tool_calls]
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


class JsonSchemaFormat(Body):
    model_config = ConfigDict(protected_namespaces=())
    name: Annotated[str, Field(max_length=256)] = ""
    description: str | None = None
    schema_: Annotated[JsonObject, Field(alias="schema")]
    strict: bool | None = None


class ResponseFormat(Body):
    """`regex` and `grammar` (Lark's syntax, or GBNF: `root ::= …`) are ours."""

    type: Literal["text", "json_object", "json_schema", "regex", "grammar"]
    json_schema: JsonSchemaFormat | None = None
    pattern: str | None = None
    grammar: str | None = None


class ChatBody(Sampling, Ignored):
    model: Annotated[str | None, Field(max_length=256)] = None
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MOST_MESSAGES)]
    max_tokens: Annotated[int | None, Field(ge=1, lt=2**31)] = None
    max_completion_tokens: Annotated[int | None, Field(ge=1, lt=2**31)] = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int | None, Field(ge=0, le=20)] = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[Tool] | None, Field(max_length=MAX_TOOLS)] = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: ReasoningEffort | None = None
    modalities: list[Literal["text"]] | None = None
    chat_template_kwargs: Annotated[JsonObject | None, Field(max_length=32)] = None

    @property
    def most_tokens(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def wanted_logprobs(self) -> int | None:
        """As GenerationOptions.logprobs."""
        return (self.top_logprobs or 0) if self.logprobs else None

    @property
    def thinking(self) -> bool:
        """Reasoning is off unless it is asked for."""
        if self.chat_template_kwargs and "enable_thinking" in self.chat_template_kwargs:
            return bool(self.chat_template_kwargs["enable_thinking"])
        return self.reasoning_effort not in (None, "none", "minimal")
