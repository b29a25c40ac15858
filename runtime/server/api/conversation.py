"""Conversations in OpenAI's form: the schemas of messages and tools, and the prompt that they become."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, cast

from pydantic import AliasChoices, Field, model_validator

from binhdan.runtime.errors import BadFormatError
from binhdan.runtime.prompting.chat import Message
from binhdan.runtime.prompting.tokenizer import Prompt, Tokenizer
from binhdan.runtime.server.api.body import Body, EchoedBody, RequestBody
from binhdan.runtime.server.api.common import JsonObject
from binhdan.runtime.server.errors import ApiError
from binhdan.runtime.structured.tools import MAX_TOOLS, ToolPlan, plan_tools

MAX_MESSAGES = 4096
_ROLES: dict[str, Any] = {"developer": "system", "function": "tool"}  # other names of roles
# A part of the name of a content part -> what it contains.
_OTHER_PARTS = {"image": "images", "audio": "sounds", "video": "videos", "file": "files"}


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
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[ContentPart] | None = None
    reasoning_content: str | None = None
    name: Annotated[str | None, Field(max_length=256)] = None
    tool_calls: Annotated[list[ToolCall] | None, Field(max_length=MAX_TOOLS)] = None
    tool_call_id: Annotated[str | None, Field(max_length=256)] = None
    function_call: FunctionCall | None = None  # of OpenAI's API before tools, as the role "function" is

    def message(self) -> Message:
        """The message for a chat template: content is one string, "developer" becomes "system"."""
        content, calls = self.content, self.tool_calls or []
        if isinstance(content, list):
            content = "".join(part.text for part in content)
        if self.function_call is not None:
            calls = [*calls, ToolCall(function=self.function_call)]
        if content is None and self.role == "assistant" and calls:
            content = ""
        message = Message(role=_ROLES.get(self.role, self.role), content=content)
        if self.reasoning_content is not None:
            message["reasoning_content"] = self.reasoning_content
        if self.name is not None:
            message["name"] = self.name
        if self.tool_call_id is not None:
            message["tool_call_id"] = self.tool_call_id
        if calls:
            message["tool_calls"] = [call.model_dump() for call in calls]
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


class TemplateFields(RequestBody):
    """What the prompt of a conversation depends on besides its messages."""

    tools: Annotated[list[Tool] | None, Field(max_length=MAX_TOOLS)] = None
    chat_template_kwargs: Annotated[JsonObject | None, Field(max_length=32)] = None
    add_generation_prompt: bool = True
    continue_final_message: bool = False

    def prompt_of(self, tokenizer: Tokenizer, messages: Sequence[ChatMessage], thinking: bool) -> Prompt:
        """The prompt of messages. Raises ApiError."""
        tools = [tool.model_dump(exclude_none=True) for tool in self.tools or ()]
        return render_prompt(
            tokenizer,
            messages,
            plan_tools(tokenizer.chat_template_source, tools),
            thinking,
            self.chat_template_kwargs,
            add_generation_prompt=self.add_generation_prompt,
            continue_final_message=self.continue_final_message,
        )


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
