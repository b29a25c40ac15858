"""/v1/responses, as far as it is text."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from binhdan.runtime.server.api.schemas.chat import MOST_MESSAGES, ChatMessage, ResponseFormat, TextPart
from binhdan.runtime.server.api.schemas.common import Body, Ignored, JsonObject, ReasoningEffort


class InputItem(Body):
    """A message, or an item of an earlier response as it came."""

    type: Literal["message", "reasoning"] = "message"
    role: Literal["system", "developer", "user", "assistant"] = "user"
    content: str | list[TextPart] | None = None
    id: str | None = None
    status: str | None = None
    summary: list[Any] | None = None
    phase: str | None = None

    def message(self) -> ChatMessage | None:
        """None for reasoning, which is not shown to the model again."""
        if self.type == "reasoning":
            return None
        return ChatMessage(role=self.role, content=self.content)


class TextFormat(Body):
    """As chat's response_format, with the schema's fields one level up."""

    type: Literal["text", "json_object", "json_schema", "regex", "grammar"] = "text"
    name: str = ""
    description: str | None = None
    schema_: Annotated[JsonObject | None, Field(alias="schema")] = None
    strict: bool | None = None
    pattern: str | None = None
    grammar: str | None = None

    @model_validator(mode="after")
    def _schema_is_there(self) -> TextFormat:
        if self.type == "json_schema" and self.schema_ is None:
            raise ValueError("a json_schema format needs a schema")
        return self

    def response_format(self) -> ResponseFormat:
        value: JsonObject = {"type": self.type}
        if self.type == "json_schema":
            value["json_schema"] = {"name": self.name, "schema": self.schema_, "strict": self.strict}
        elif self.type == "regex":
            value["pattern"] = self.pattern
        elif self.type == "grammar":
            value["grammar"] = self.grammar
        return ResponseFormat.model_validate(value)


class TextSettings(Body):
    format: TextFormat = TextFormat()
    verbosity: str | None = None


class Reasoning(Body):
    effort: ReasoningEffort | None = None
    summary: str | None = None
    generate_summary: str | None = None


class ResponseBody(Ignored):
    model: Annotated[str | None, Field(max_length=256)] = None
    input: str | Annotated[list[InputItem], Field(min_length=1, max_length=MOST_MESSAGES)]
    instructions: str | None = None
    max_output_tokens: Annotated[int | None, Field(ge=1, lt=2**31)] = None
    temperature: Annotated[float | None, Field(ge=0, le=2)] = None
    top_p: Annotated[float | None, Field(gt=0, le=1)] = None
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
    # Refused with a message of their own.
    previous_response_id: str | None = None
    conversation: Any = None
    prompt: Any = None
    background: bool | None = None
    tools: list[Any] | None = None

    def messages(self) -> list[ChatMessage]:
        """The conversation that the input stands for."""
        messages = []
        if self.instructions:
            messages.append(ChatMessage(role="system", content=self.instructions))
        if isinstance(self.input, str):
            return [*messages, ChatMessage(role="user", content=self.input)]
        return messages + [message for item in self.input if (message := item.message()) is not None]

    def refusal(self) -> tuple[str, str] | None:
        """The field that this server does not do, and why."""
        if self.previous_response_id is not None:
            return "previous_response_id", "responses are not stored here: send the conversation in input"
        if self.conversation is not None:
            return "conversation", "conversations are not stored here: send the messages in input"
        if self.prompt is not None:
            return "prompt", "prompts are not stored here: send instructions and input"
        if self.background:
            return "background", "responses are not stored here: wait for this one, or stream it"
        if self.tools:
            return "tools", "tools are not offered here: use /v1/chat/completions"
        return None
