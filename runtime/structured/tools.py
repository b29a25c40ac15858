"""OpenAI's `tools` and `tool_choice`, in the tool format of the model's chat template.

    plan = plan_tools(model.metadata("tokenizer.chat_template"), tools, tool_choice, parallel)
    messages = plan.messages(messages)                # always, because messages may hold earlier calls
    tokens = model.chat_tokens(messages, tools=plan.template_tools)
    if plan.spec: constraint = constraints.compile(plan.spec, thinking)
    parser = plan.parser()                            # None: the answer has no calls
    for piece in answer: parser.push(piece.text)      # TextPart, CallPart, ArgumentsPart; then finish()

A forced call (`required`, or a function by name) is valid by construction: its name is one of the functions'
names, and its arguments follow that function's schema. With `auto` the model may write text; a call that it
starts is valid in the same way. For a template without tools, or with an unknown tool format, a system
message describes the tools.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from binhdan.runtime.structured.answer_check import ENFORCED, AnswerCheck
from binhdan.runtime.structured.constraints import Fallback, Spec, invalid, schema_grammar
from binhdan.runtime.structured.relax import relaxed
from binhdan.runtime.structured.tool_format import HERMES, ToolFormat, grammar, known_format
from binhdan.runtime.structured.tool_parser import ToolCallParser

MAX_TOOLS = 128
MAX_TOOLS_BYTES = 1 << 17  # of all tools together, as JSON
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")  # OpenAI's rule

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
    parameters: dict[str, Any] | None  # a JSON schema; None: no parameters
    strict: bool
    param: str  # the request field of its parameters

    def to_json(self) -> dict[str, Any]:
        """As an element of OpenAI's `tools` list."""
        function: dict[str, Any] = {"name": self.name}
        if self.description:
            function["description"] = self.description
        function["parameters"] = self.parameters or {"type": "object", "properties": {}}
        return {"type": "function", "function": function}


@dataclass(frozen=True, slots=True)
class ToolPlan:
    """How one request presents its tools to the model and parses its calls.

    `functions`: functions that may be called; may be empty. `native`: the model's template presents the
    tools. `forced`: the answer must consist of calls. `spec`: for Constraints.compile; None: no constraint.
    """

    format: ToolFormat
    native: bool
    functions: tuple[Function, ...]
    forced: bool
    spec: Spec | None
    _presented: tuple[Function, ...]  # all functions of the request, even if only one may be called

    @property
    def template_tools(self) -> list[dict[str, Any]] | None:
        """The argument `tools` of Model.chat_tokens."""
        return (
            [function.to_json() for function in self._presented] if self.native and self.functions else None
        )

    def messages(self, messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The conversation in the template's form. `messages` are OpenAI's, with content as a string or None.
        Raises InvalidArgumentError for malformed tool calls."""
        checked = [_with_arguments(message, i) for i, message in enumerate(messages)]
        checked = _with_ids(checked, self.format)
        if self.native:
            return checked
        written = self._written(checked)
        if not self.functions:
            return written
        tools = "\n".join(json.dumps(function.to_json(), ensure_ascii=False) for function in self._presented)
        instruction = _INSTRUCTION.format(tools=tools)
        if written and written[0].get("role") == "system":
            first = written[0] | {"content": f"{written[0].get('content') or ''}\n\n{instruction}".lstrip()}
            return [first, *written[1:]]
        return [{"role": "system", "content": instruction}, *written]

    def parser(self) -> ToolCallParser | None:
        """A parser for one answer; None when the answer cannot have calls."""
        if not self.functions:
            return None
        return ToolCallParser(self.format, [function.name for function in self.functions])

    def _written(self, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Calls and results as text, for templates that support neither."""
        written: list[dict[str, Any]] = []
        results = False  # the last message holds tool results
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
    template: str | None,
    tools: Any = None,
    tool_choice: Any = None,
    parallel: bool = True,
    answer: Spec | None = None,
) -> ToolPlan:
    """Plans a request. `template`: the model's chat template. `tools` and `tool_choice`: as in OpenAI's chat
    completions, or in the flat form of its Responses API. `parallel`: parallel_tool_calls. `answer`: the form
    of an answer without calls, of one grammar.

    A function that is not `strict` may have a schema that a grammar cannot enforce. Its arguments then follow
    a schema that allows more. The compiled constraint lists what is dropped, and its check validates the
    arguments. Raises InvalidArgumentError.
    """
    functions = _functions(tools)
    mode, name = _choice(tool_choice, functions)
    known = known_format(template)
    format = known or HERMES
    native = known is not None
    if mode == "none":
        return ToolPlan(format, native, (), False, None, ())
    callable_now = tuple(function for function in functions if name in (None, function.name))
    forced = mode == "required"
    arguments, params, fallbacks, dropped = [], {}, {}, list[str]()
    schemas: dict[str, Any] = {}  # of the arguments of each function, for the check
    for i, function in enumerate(callable_now):
        key, schema = f"arguments_{i}", _closed(function.parameters)
        enforced, unenforced = (schema, []) if function.strict else relaxed(schema, function.param)
        if not function.strict:
            fallback = schema_grammar(key, {"type": "object"}, function.param)
            fallbacks[key] = Fallback(fallback, function.name, schema)
        dropped += unenforced
        params[key] = function.param
        schemas[function.name] = schema if unenforced else ENFORCED
        arguments.append(schema_grammar(key, enforced, function.param, lenient=not function.strict))
    form, checked_form = None, None
    if answer is not None and not forced:
        form = "form"
        arguments.append(answer.grammars[0] | {"name": form})
        params[form] = answer.param
        dropped += answer.relaxed
        checked_form = None if answer.check is None else answer.check.form
    lark = grammar(
        format,
        [(function.name, f"arguments_{i}") for i, function in enumerate(callable_now)],
        forced=forced,
        parallel=parallel and name is None,
        form=form,
    )
    spec = Spec(
        ({"name": "answer", "lark_grammar": lark}, *arguments),
        "tools",
        params,
        format.control if native else "",
        fallbacks=fallbacks,
        relaxed=tuple(dropped),
        check=AnswerCheck(checked_form, schemas, format),
    )
    return ToolPlan(format, native, callable_now, forced, spec, functions)


# ---- validation --------------------------------------------------------------------------------------------


def _functions(tools: Any) -> tuple[Function, ...]:
    if tools is None:
        return ()
    if not isinstance(tools, list):
        raise invalid("tools: expected a list of functions", "tools")
    if len(tools) > MAX_TOOLS:
        raise invalid(f"tools: expected up to {MAX_TOOLS}, got {len(tools)}", "tools")
    functions = tuple(_function(tool, f"tools[{i}]") for i, tool in enumerate(tools))
    for i, function in enumerate(functions):
        if any(other.name == function.name for other in functions[:i]):
            raise invalid(
                f"tools: expected unique function names, got {function.name!r} twice", f"tools[{i}]"
            )
    if (
        sum(len(_json(function.to_json()).encode("utf-8", "replace")) for function in functions)
        > MAX_TOOLS_BYTES
    ):
        raise invalid(f"tools: expected up to {MAX_TOOLS_BYTES:,} bytes in total, got more", "tools")
    return functions


def _function(tool: Any, param: str) -> Function:
    if not isinstance(tool, Mapping) or tool.get("type") != "function":
        raise invalid('a tool: expected an object with "type": "function"', param)
    function = tool
    if "function" in tool:  # without it, the flat form of the Responses API
        function, param = tool["function"], f"{param}.function"
    if not isinstance(function, Mapping):
        raise invalid("a tool's function: expected an object with name and parameters", param)
    name, description = function.get("name"), function.get("description")
    parameters, strict = function.get("parameters"), function.get("strict")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise invalid(
            "a function's name: expected 1 to 64 characters of a-z, A-Z, 0-9, _ and -", f"{param}.name"
        )
    if not isinstance(description, str | None):
        raise invalid("a function's description: expected a string", f"{param}.description")
    if not isinstance(strict, bool | None):
        raise invalid("a function's strict: expected true or false", f"{param}.strict")
    if parameters is not None:
        if not isinstance(parameters, dict):
            raise invalid("a function's parameters: expected a JSON schema, an object", f"{param}.parameters")
        if parameters.get("type", "object") != "object":
            raise invalid('a function\'s parameters: expected "type": "object"', f"{param}.parameters")
        schema_grammar("", parameters, f"{param}.parameters")  # checks its size before further work
    return Function(name, description or "", parameters, bool(strict), f"{param}.parameters")


def _choice(
    choice: Any, functions: tuple[Function, ...]
) -> tuple[Literal["none", "auto", "required"], str | None]:
    """The mode, and the one function that may be called."""
    param = "tool_choice"
    if not functions:
        return "none", None  # clients send a tool_choice without tools
    if choice is None:
        return "auto", None
    if choice in ("none", "auto", "required"):
        return choice, None
    if isinstance(choice, Mapping) and choice.get("type") == "function":
        function = choice.get("function", choice)
        name = function.get("name") if isinstance(function, Mapping) else None
        if any(function.name == name for function in functions):
            return "required", name
        raise invalid("tool_choice: expected the name of one of the tools", param)
    raise invalid(
        'tool_choice: expected "none", "auto", "required" or an object that names a function', param
    )


def _closed(parameters: dict[str, Any] | None) -> dict[str, Any]:
    """The schema of a function's arguments, without additional properties unless it allows them: functions
    fail on unknown arguments."""
    if parameters is None:
        return {"type": "object", "properties": {}, "additionalProperties": False}
    composed = ("additionalProperties", "patternProperties", "$ref", "allOf", "anyOf", "oneOf")
    closed = "properties" in parameters and not any(key in parameters for key in composed)
    return {"type": "object", **parameters, **({"additionalProperties": False} if closed else {})}


def _with_arguments(message: Mapping[str, Any], i: int) -> dict[str, Any]:
    """A copy with the arguments of calls as objects, as templates expect; OpenAI's API has them as text."""
    calls = message.get("tool_calls")
    if not calls:
        return {key: value for key, value in message.items() if key != "tool_calls"}
    param = f"messages[{i}].tool_calls"
    if not isinstance(calls, Sequence) or message.get("role") != "assistant":
        raise invalid("tool_calls: expected a list, in an assistant message", param)
    return {**message, "tool_calls": [_call(call, param) for call in calls]}


def _with_ids(messages: list[dict[str, Any]], format: ToolFormat) -> list[dict[str, Any]]:
    """The messages with an id for each call and result, in the form that the templates of `format` require.

    A result without an id belongs to the first call of the last message with calls that has no result.
    """
    changed: list[dict[str, Any]] = []
    waiting: list[str] = []  # ids of calls without a result
    for number, message in enumerate(messages):
        if calls := message.get("tool_calls"):
            ids = [format.valid_id(call.get("id") or f"call {number}.{i}") for i, call in enumerate(calls)]
            waiting = list(ids)
            message = message | {
                "tool_calls": [call | {"id": id} for call, id in zip(calls, ids, strict=True)]
            }
        elif message.get("role") == "tool":
            given = message.get("tool_call_id")
            id = format.valid_id(given) if given else waiting[0] if waiting else ""
            if id in waiting:
                waiting.remove(id)
            if id:
                message = message | {"tool_call_id": id}
        changed.append(message)
    return changed


def _call(call: Any, param: str) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise invalid("a tool call: expected a function with name and arguments", param)
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        with suppress(ValueError, RecursionError):  # invalid JSON of a model stays as it is
            arguments = json.loads(arguments) if arguments.strip() else {}
    return {**call, "function": {**function, "arguments": {} if arguments is None else arguments}}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
