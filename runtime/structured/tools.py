"""OpenAI's `tools` and `tool_choice`, in the format of the model's family.

    plan = plan_tools(model.metadata("tokenizer.chat_template"), tools, tool_choice, parallel)
    messages = plan.messages(messages)                # always: earlier calls are in there too
    tokens = model.chat_tokens(messages, tools=plan.template_tools)
    if plan.spec: constraint = constraints.compile(plan.spec, thinking)
    parser = plan.parser()                            # None: all text is text
    for piece in answer: parser.push(piece.text)      # TextPart, CallPart, ArgumentsPart; then finish()

A call that is demanded (`required`, or a function by name) is valid by construction: its name is one of the
functions', its arguments follow that function's schema. With `auto` the model may write text; once it has
begun a call, that call is valid in the same way. A model whose template knows no tools, or writes calls in a
way that is not known here, is told about them in a system message of ours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from binhdan.runtime.errors import InvalidArgumentError
from binhdan.runtime.structured.constraints import Spec, schema_grammar
from binhdan.runtime.structured.tool_format import HERMES, ToolFormat, grammar, known_format
from binhdan.runtime.structured.tool_parser import ToolCallParser

MOST_TOOLS = 128
MOST_TOOLS_BYTES = 1 << 17  # of all together, as JSON
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")  # as OpenAI has it

_INSTRUCTION = """\
# Tools

You may call one or more functions to help the user. These are the functions, one JSON object each:
<tools>
{tools}
</tools>

To call a function, answer with its name and arguments as JSON within <tool_call></tool_call>:
<tool_call>
{{"name": <function-name>, "arguments": <arguments-object>}}
</tool_call>"""


@dataclass(frozen=True, slots=True)
class Function:
    """A function that the model may call."""

    name: str
    description: str
    parameters: dict[str, Any] | None  # a JSON schema; None: it takes none
    strict: bool
    param: str  # of its parameters in the request

    def to_json(self) -> dict[str, Any]:
        """As an element of OpenAI's `tools`."""
        function: dict[str, Any] = {"name": self.name}
        if self.description:
            function["description"] = self.description
        function["parameters"] = self.parameters or {"type": "object", "properties": {}}
        return {"type": "function", "function": function}


@dataclass(frozen=True, slots=True)
class ToolPlan:
    """How the tools of one request are told to the model, and how its calls are read.

    `functions`: those that may be called; empty: none. `native`: the model's template tells about them.
    `demanded`: the answer must be calls. `spec`: for Constraints.compile; None: the answer is free.
    """

    format: ToolFormat
    native: bool
    functions: tuple[Function, ...]
    demanded: bool
    spec: Spec | None
    _told: tuple[Function, ...]  # all of the request's, though only one may be called

    @property
    def template_tools(self) -> list[dict[str, Any]] | None:
        """For Model.chat_tokens(tools=…)."""
        return [function.to_json() for function in self._told] if self.native and self.functions else None

    def messages(self, messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The conversation as the template wants it. `messages` are OpenAI's, with contents as plain strings
        or None. Raises InvalidArgumentError for tool calls that make no sense."""
        checked = [_with_arguments(message, i) for i, message in enumerate(messages)]
        if self.native:
            return checked
        written = self._written(checked)
        if not self.functions:
            return written
        tools = "\n".join(json.dumps(function.to_json(), ensure_ascii=False) for function in self._told)
        instruction = _INSTRUCTION.format(tools=tools)
        if written and written[0].get("role") == "system":
            first = written[0] | {"content": f"{written[0].get('content') or ''}\n\n{instruction}".lstrip()}
            return [first, *written[1:]]
        return [{"role": "system", "content": instruction}, *written]

    def parser(self) -> ToolCallParser | None:
        """For one answer. None when it can have no calls."""
        if not self.functions:
            return None
        return ToolCallParser(self.format, [function.name for function in self.functions])

    def _written(self, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Calls and their results as text, for templates that know neither."""
        written: list[dict[str, Any]] = []
        results = False  # is the last message made of results?
        for message in messages:
            content = message.get("content") or ""
            if message.get("role") == "tool":
                text = f"<tool_response>\n{content}\n</tool_response>"
                if results:
                    written[-1]["content"] += "\n" + text
                else:
                    written.append({"role": "user", "content": text})
                results = True
                continue
            results = False
            calls = message.get("tool_calls")
            if calls:
                texts = [
                    self.format.write(call["function"]["name"], _json(call["function"]["arguments"]))
                    for call in calls
                ]
                message = {key: value for key, value in message.items() if key != "tool_calls"}
                message["content"] = "\n".join([content, *texts] if content else texts)
            written.append(message)
        return written


def plan_tools(
    template: str | None, tools: Any = None, tool_choice: Any = None, parallel: bool = True
) -> ToolPlan:
    """Plans a request. `template`: the model's chat template. `tools` and `tool_choice` as in OpenAI's chat
    completions, or in the flat form of its responses; `parallel`: parallel_tool_calls.

    Raises InvalidArgumentError.
    """
    functions = _functions(tools)
    mode, name = _choice(tool_choice, functions)
    known = known_format(template)
    format = known or HERMES
    native = known is not None
    if mode == "none":
        return ToolPlan(format, native, (), False, None, ())
    callable_now = tuple(function for function in functions if name in (None, function.name))
    demanded = mode == "required"
    arguments = [
        schema_grammar(
            f"arguments_{i}",
            _closed(function.parameters),
            function.param,
            lenient=not (demanded or function.strict),
        )
        for i, function in enumerate(callable_now)
    ]
    lark = grammar(
        format,
        [(function.name, f"arguments_{i}") for i, function in enumerate(callable_now)],
        forced=demanded,
        parallel=parallel and name is None,
    )
    spec = Spec(
        ({"name": "answer", "lark_grammar": lark}, *arguments),
        "tools",
        {f"arguments_{i}": function.param for i, function in enumerate(callable_now)},
        format.control if native else "",
    )
    return ToolPlan(format, native, callable_now, demanded, spec, functions)


# ---- reading the request -----------------------------------------------------------------------------------


def _functions(tools: Any) -> tuple[Function, ...]:
    if tools is None:
        return ()
    if not isinstance(tools, list):
        raise _refusal("tools is a list of functions", "tools")
    if len(tools) > MOST_TOOLS:
        raise _refusal(f"there are {len(tools)} tools; at most {MOST_TOOLS} are allowed", "tools")
    functions = tuple(_function(tool, f"tools[{i}]") for i, tool in enumerate(tools))
    for i, function in enumerate(functions):
        if any(other.name == function.name for other in functions[:i]):
            raise _refusal(f"there are two functions {function.name!r}", f"tools[{i}]")
    if (
        sum(len(_json(function.to_json()).encode("utf-8", "replace")) for function in functions)
        > MOST_TOOLS_BYTES
    ):
        raise _refusal(f"all tools together have more than {MOST_TOOLS_BYTES:,} bytes", "tools")
    return functions


def _function(tool: Any, param: str) -> Function:
    if not isinstance(tool, Mapping) or tool.get("type") != "function":
        raise _refusal('a tool is an object with "type": "function"; there are no others', param)
    function = tool
    if "function" in tool:  # otherwise it is flat, as in OpenAI's responses
        function, param = tool["function"], f"{param}.function"
    if not isinstance(function, Mapping):
        raise _refusal("a tool's function is an object with name and parameters", param)
    name, description = function.get("name"), function.get("description")
    parameters, strict = function.get("parameters"), function.get("strict")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _refusal(
            "a function's name has 1 to 64 characters out of a-z, A-Z, 0-9, _ and -", f"{param}.name"
        )
    if not isinstance(description, str | None):
        raise _refusal("a function's description is a string", f"{param}.description")
    if not isinstance(strict, bool | None):
        raise _refusal("a function's strict is true or false", f"{param}.strict")
    if parameters is not None:
        if not isinstance(parameters, dict):
            raise _refusal("a function's parameters are a JSON schema, an object", f"{param}.parameters")
        if parameters.get("type", "object") != "object":
            raise _refusal('a function\'s parameters have "type": "object"', f"{param}.parameters")
        schema_grammar("", parameters, f"{param}.parameters")  # bounds what is done with it from here on
    return Function(name, description or "", parameters, bool(strict), f"{param}.parameters")


def _choice(
    choice: Any, functions: tuple[Function, ...]
) -> tuple[Literal["none", "auto", "required"], str | None]:
    """The mode, and the one function that may be called."""
    param = "tool_choice"
    if not functions:
        if choice not in (None, "none", "auto"):
            raise _refusal("tool_choice demands a call, but there are no tools", param)
        return "none", None
    if choice is None:
        return "auto", None
    if choice in ("none", "auto", "required"):
        return choice, None
    if isinstance(choice, Mapping) and choice.get("type") == "function":
        function = choice.get("function", choice)
        name = function.get("name") if isinstance(function, Mapping) else None
        if any(function.name == name for function in functions):
            return "required", name
        raise _refusal("tool_choice names a function that is not among the tools", param)
    raise _refusal('tool_choice is "none", "auto", "required" or an object that names a function', param)


def _closed(parameters: dict[str, Any] | None) -> dict[str, Any]:
    """The schema of a function's arguments. It allows no others than those it names, unless it says so:
    functions fail on arguments that they do not know."""
    if parameters is None:
        return {"type": "object", "properties": {}, "additionalProperties": False}
    composed = ("additionalProperties", "patternProperties", "$ref", "allOf", "anyOf", "oneOf")
    closed = "properties" in parameters and not any(key in parameters for key in composed)
    return {"type": "object", **parameters, **({"additionalProperties": False} if closed else {})}


def _with_arguments(message: Mapping[str, Any], i: int) -> dict[str, Any]:
    """A copy with the arguments of calls as objects, which templates want; OpenAI has them as text."""
    calls = message.get("tool_calls")
    if not calls:
        return {key: value for key, value in message.items() if key != "tool_calls"}
    param = f"messages[{i}].tool_calls"
    if not isinstance(calls, Sequence) or message.get("role") != "assistant":
        raise _refusal("tool_calls is a list, in a message of the assistant", param)
    return {**message, "tool_calls": [_call(call, param) for call in calls]}


def _call(call: Any, param: str) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise _refusal("a tool call has a function with name and arguments", param)
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        with suppress(ValueError, RecursionError):  # what a model wrote wrongly is shown as it was
            arguments = json.loads(arguments) if arguments.strip() else {}
    return {**call, "function": {**function, "arguments": {} if arguments is None else arguments}}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _refusal(message: str, param: str) -> InvalidArgumentError:
    return InvalidArgumentError(message, param=param)
