"""runtime/structured/tools.py and tool_format.py: present tools, constrain calls, parse calls."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import pytest
from masks import allowed, sample

import binhdan
from binhdan.runtime.errors import InvalidArgumentError
from binhdan.runtime.prompting.chat import ChatTemplate
from binhdan.runtime.structured.constraints import Constraints
from binhdan.runtime.structured.tool_format import HERMES, LLAMA3, MISTRAL, ToolFormat, known_format
from binhdan.runtime.structured.tool_parser import CallPart, Part, TextPart
from binhdan.runtime.structured.tools import MAX_TOOLS, ToolPlan, plan_tools

WEATHER = {
    "type": "function",
    "function": {
        "name": "thoi_tiet",
        "description": "Thời tiết ở một nơi",
        "parameters": {
            "type": "object",
            "properties": {
                "nơi": {"type": "string", "maxLength": 12},
                "đơn vị": {"$ref": "#/$defs/đơn_vị"},
                "ngày": {
                    "type": "array",
                    "items": {"type": "integer", "minimum": 1, "maximum": 31},
                    "maxItems": 2,
                },
            },
            "required": ["nơi", "đơn vị"],
            "$defs": {"đơn_vị": {"enum": ["C", "F"]}},
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "gio"}}
TOOLS = [WEATHER, CLOCK]

# Minimal chat templates with the tool markup of each family.
QWEN = """\
{%- if tools %}<|im_start|>system
{%- for tool in tools %}
{{ tool | tojson }}
{%- endfor %}
Answer with <tool_call>\n{"name": …}\n</tool_call><|im_end|>
{% endif %}
{%- for message in messages %}<|im_start|>{{ message.role }}
{{ message.content or "" }}
{%- for call in message.tool_calls or [] %}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor %}<|im_end|>
{% endfor %}"""
LLAMA = """{%- if tools %}<|start_header_id|>{{ '{"name": …, "parameters": …}' }}{% endif %}"""


def check_arguments(name: str, arguments: Any) -> None:
    if name == "gio":
        assert arguments == {}
        return
    assert name == "thoi_tiet" and {"nơi", "đơn vị"} <= set(arguments) <= {"nơi", "đơn vị", "ngày"}
    assert len(arguments["nơi"]) <= 12 and arguments["đơn vị"] in ("C", "F")
    assert len(arguments.get("ngày", [])) <= 2 and all(1 <= day <= 31 for day in arguments.get("ngày", []))


def parse(plan: ToolPlan, answer: str) -> tuple[str, list[tuple[str, Any]]]:
    """Parses an answer in pieces of three characters. Returns its text and calls."""
    parser = plan.parser()
    assert parser is not None
    parts: list[Part] = [part for i in range(0, len(answer), 3) for part in parser.push(answer[i : i + 3])]
    text, names, arguments = "", list[str](), list[str]()
    for part in parts + parser.finish():
        if isinstance(part, TextPart):
            text += part.text
        elif isinstance(part, CallPart):
            names.append(part.name)
            arguments.append("")
        else:
            arguments[part.index] += part.text
    return text, [(name, json.loads(value)) for name, value in zip(names, arguments, strict=True)]


# ---- constrained calls -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("template", [None, QWEN, LLAMA, "{{ tools }}[TOOL_CALLS]"], ids=range(4))
def test_random_tokens_form_valid_calls(
    model: binhdan.Model, constraints: Constraints, template: str | None, seed: int
) -> None:
    for parallel in (True, False):
        plan = plan_tools(template, TOOLS, "required", parallel)
        assert plan.forced and plan.spec is not None
        text, ended = sample(model, constraints.compile(plan.spec), seed, 800)
        assert ended
        answer, calls = parse(plan, text.decode())
        assert not answer and calls
        for call in calls:
            check_arguments(*call)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("template", [None, LLAMA, "{{ tools }}[TOOL_CALLS]"], ids=range(3))
def test_required_calls_of_the_model(
    model: binhdan.Model, constraints: Constraints, template: str | None, seed: int
) -> None:
    plan = plan_tools(template, TOOLS, "required", parallel=False)
    assert plan.spec is not None
    mask = constraints.compile(plan.spec).mask()
    answer = model.ask("Thời tiết?", mask=mask, temperature=1.5, seed=seed, max_tokens=300)
    text, [call] = parse(plan, answer.text)
    assert answer.finish_reason == "stop" and not text
    check_arguments(*call)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["thoi_tiet", "gio"])
@pytest.mark.parametrize("flat", [False, True])
def test_a_call_by_name(
    model: binhdan.Model, constraints: Constraints, name: str, flat: bool, seed: int
) -> None:
    choice = {"type": "function", "name": name} if flat else {"type": "function", "function": {"name": name}}
    tools = [{"type": "function"} | tool["function"] for tool in TOOLS] if flat else TOOLS
    plan = plan_tools(None, tools, choice)
    assert plan.spec is not None
    mask = constraints.compile(plan.spec).mask()
    answer = model.chat(
        plan.messages([{"role": "user", "content": "Mấy giờ?"}]),
        mask=mask,
        temperature=1.2,
        seed=seed,
        max_tokens=300,
    )
    text, [call] = parse(plan, answer.text)
    assert answer.finish_reason == "stop" and not text and call[0] == name
    check_arguments(*call)
    assert "gio" in plan.messages([])[0]["content"]  # the prompt lists all tools


def test_without_parallel_calls_there_is_one_call(model: binhdan.Model, constraints: Constraints) -> None:
    plan = plan_tools(None, TOOLS, "required", parallel=False)
    assert plan.spec is not None
    for seed in range(4):
        text, ended = sample(model, constraints.compile(plan.spec), seed)
        assert ended and len(parse(plan, text.decode())[1]) == 1


def next_tokens(
    model: binhdan.Model, constraints: Constraints, plan: ToolPlan, thinking: Any, text: str
) -> list[bytes]:
    """Checks that an answer may begin with `text`. Returns the tokens that may follow."""
    assert plan.spec is not None
    mask, tokens = constraints.compile(plan.spec, thinking).mask(), model.tokenize(text)
    for i, token in enumerate(tokens):
        assert token in allowed(mask(tokens[:i])), model.detokenize(tokens[:i])
    return [model.detokenize_bytes((token,), special=True) for token in allowed(mask(tokens))]


ENDS = b"<|im_end|>"


@pytest.mark.parametrize("template", [None, QWEN])
def test_auto_allows_any_text_until_a_call_begins(
    model: binhdan.Model, constraints: Constraints, template: str | None
) -> None:
    plan = plan_tools(template, TOOLS)
    assert not plan.forced
    free = next_tokens(model, constraints, plan, "no", "Chào bạn, 1 < 2 và {")
    assert ENDS in free and len(free) > 0.9 * model.info.vocabulary
    assert all(
        piece.startswith(b"\n")
        for piece in next_tokens(model, constraints, plan, "no", "Để xem.\n<tool_call>")
    )
    name = next_tokens(model, constraints, plan, "no", '<tool_call>\n{"name": "')
    assert name and all(piece[:1] in (b"t", b"g") for piece in name)
    whole = next_tokens(
        model, constraints, plan, "no", 'Ừ.\n<tool_call>\n{"name": "gio", "arguments": {}}\n</tool_call>'
    )
    assert sorted(whole) == [b"\n", b"<|endoftext|>", ENDS]


@pytest.mark.parametrize(
    ("template", "first"), [(LLAMA, '{"name": "'), ("{{ tools }}[TOOL_CALLS]", ' [{"name": "')]
)
def test_auto_with_formats_in_which_a_call_is_the_whole_answer(
    model: binhdan.Model, constraints: Constraints, template: str, first: str
) -> None:
    plan = plan_tools(template, TOOLS)
    for text in ("Chào", '{"tên": "An"}', "[1", first[:-4], 'Đây: {"name": "An"'):
        free = next_tokens(model, constraints, plan, "no", text)
        assert ENDS in free and len(free) > 0.9 * model.info.vocabulary
    name = next_tokens(model, constraints, plan, "no", first)
    assert name and all(piece[:1] in (b"t", b"g") for piece in name)


def test_reasoning_is_not_constrained(model: binhdan.Model, constraints: Constraints) -> None:
    plan = plan_tools(QWEN, TOOLS)
    for thinking, text in (("may", "<think>\nDùng <tool_call> à?"), ("must", "Dùng <tool_call> à?")):
        assert len(next_tokens(model, constraints, plan, thinking, text)) > 0.9 * model.info.vocabulary
        after = text + "\n</think>\n\nĐể xem.\n<tool_call>"
        assert all(
            piece.startswith(b"\n") for piece in next_tokens(model, constraints, plan, thinking, after)
        )
    plan = plan_tools(QWEN, TOOLS, "required")
    after = next_tokens(model, constraints, plan, "may", "<think>ờ</think>\n\n<tool")
    assert after and all(piece.startswith(b"_") for piece in after)


def test_auto_with_the_model(model: binhdan.Model, constraints: Constraints) -> None:
    """The embedded model makes no call on its own, so a mask forces the beginning of a call."""
    plan = plan_tools(model.metadata("tokenizer.chat_template"), TOOLS, parallel=False)
    assert plan.spec is not None and plan.template_tools is None
    messages = plan.messages([{"role": "user", "content": "Thời tiết ở Huế?"}])
    answer = model.chat(messages, mask=constraints.compile(plan.spec).mask(), max_tokens=30)
    assert parse(plan, answer.text) == (answer.text, [])

    constraint = constraints.compile(plan.spec)
    opening = model.tokenize("Để xem.\n<tool_call>")
    for seed in range(4):
        inner = constraint.mask()

        def mask(tokens: Any) -> bytes:
            bits = inner(tokens)  # noqa: B023
            if len(tokens) >= len(opening):
                return bits
            only = bytearray(len(bits))
            only[opening[len(tokens)] >> 3] = 1 << (opening[len(tokens)] & 7)
            return bytes(only)

        answer = model.chat(messages, mask=mask, temperature=1.0, seed=seed, max_tokens=300)
        text, [call] = parse(plan, answer.text)
        assert text == "Để xem." and answer.finish_reason == "stop"
        check_arguments(*call)


def test_a_control_token_may_precede_a_call(model: binhdan.Model, constraints: Constraints) -> None:
    """The embedded model has no <|python_tag|>, so the test uses another control token."""
    plan = plan_tools(LLAMA, TOOLS, "required")
    assert plan.spec is not None and plan.spec.control == "<|python_tag|>"
    control = model.token_roles().index(2)
    spec = dataclasses.replace(plan.spec, control=model.detokenize((control,), special=True))
    mask = constraints.compile(spec).mask()
    assert control in allowed(mask(()))
    assert control not in allowed(mask((control,))) and allowed(mask((control,)))
    assert control not in allowed(constraints.compile(plan.spec).mask()(()))


# ---- schemas of arguments ----------------------------------------------------------------------------------


def tool(parameters: Any, **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", "parameters": parameters, **more}}


def test_unsupported_schemas_are_rejected_only_for_strict_functions(constraints: Constraints) -> None:
    parameters = {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}}
    for choice in ("auto", "required"):
        lenient = plan_tools(None, [CLOCK, tool(parameters)], choice)
        assert lenient.spec is not None
        (dropped,) = constraints.compile(lenient.spec).relaxed
        assert dropped == "tools[1].function.parameters.properties.a.uniqueItems"
    strict = tool(parameters, strict=True)
    for plan in (plan_tools(None, [CLOCK, strict]), plan_tools(None, [CLOCK, strict], "required")):
        assert plan.spec is not None
        with pytest.raises(InvalidArgumentError, match="uniqueItems") as caught:
            constraints.compile(plan.spec)
        assert caught.value.param == "tools[1].function.parameters"


def test_a_schema_that_cannot_be_compiled_becomes_any_object(constraints: Constraints) -> None:
    for parameters in (
        {"type": "object", "properties": {"a": False}, "required": ["a"]},
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/none"}}},
        {"type": "object", "properties": {"a": {"type": "chữ"}}},
    ):
        plan = plan_tools(None, [CLOCK, tool(parameters)], "required")
        assert plan.spec is not None
        assert constraints.compile(plan.spec).relaxed == ("tools[1].function.parameters",)


def test_ids_in_the_form_of_the_template() -> None:
    def call(id: str) -> Any:
        return {"id": id, "type": "function", "function": {"name": "gio", "arguments": {}}}

    messages: Any = [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [call("toolu_01/abc"), call(""), call("a1B2c3D4e")],
        },
        {"role": "tool", "content": "1"},
        {"role": "tool", "content": "3", "tool_call_id": "a1B2c3D4e"},
        {"role": "tool", "content": "2"},
        {"role": "tool", "content": "1", "tool_call_id": "toolu_01/abc"},
    ]
    mistral = plan_tools("{{ tools }} [TOOL_CALLS]", TOOLS).messages(messages)
    ids = [one["id"] for one in mistral[0]["tool_calls"]]
    assert all(re.fullmatch("[a-zA-Z0-9]{9}", id) for id in ids) and len(set(ids)) == 3
    assert ids[2] == "a1B2c3D4e"
    assert [one["tool_call_id"] for one in mistral[1:]] == [ids[0], ids[2], ids[1], ids[0]]
    hermes = plan_tools(QWEN, TOOLS).messages(messages)
    assert hermes[0]["tool_calls"][0]["id"] == "toolu_01/abc"


@pytest.mark.parametrize(
    ("parameters", "valid", "wrong"),
    [
        (None, "{}", '{"'),
        ({}, '{"a": [', "1"),
        ({"properties": {"a": {"type": "null"}}}, '{"a": null}', '{"b'),
        ({"properties": {"a": {"const": 1}}, "additionalProperties": {"const": 2}}, '{"b": 2}', '{"b": 1'),
        ({"$ref": "#/$defs/x", "$defs": {"x": {"properties": {"a": {"const": 1}}}}}, '{"b": 2}', '{"a": 2'),
    ],
)
def test_arguments_follow_the_schema(
    model: binhdan.Model, constraints: Constraints, parameters: Any, valid: str, wrong: str
) -> None:
    plan = plan_tools(None, [tool(parameters)], "required")
    head = '<tool_call>\n{"name": "f", "arguments": '
    next_tokens(model, constraints, plan, "no", head + valid)
    with pytest.raises(AssertionError):
        next_tokens(model, constraints, plan, "no", head + wrong)


def test_many_tools_are_fast_enough(model: binhdan.Model, constraints: Constraints) -> None:
    tools = [
        {"type": "function", "function": {**WEATHER["function"], "name": f"thoi_tiet_{i}"}}  # type: ignore[dict-item]
        for i in range(MAX_TOOLS)
    ]
    plan = plan_tools(None, tools, "required")
    assert plan.spec is not None
    text, ended = sample(model, constraints.compile(plan.spec), 0, 600)
    assert ended and parse(plan, text.decode())[1]


# ---- prompts -----------------------------------------------------------------------------------------------


def test_a_template_with_tool_support() -> None:
    plan = plan_tools(QWEN, TOOLS)
    assert plan.native and plan.template_tools == [
        {"type": "function", "function": {"name": "thoi_tiet"} | WEATHER["function"]},  # type: ignore[operator]
        {"type": "function", "function": {"name": "gio", "parameters": {"type": "object", "properties": {}}}},
    ]
    messages = plan.messages(
        [
            {"role": "user", "content": "Thời tiết ở Huế?"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "1",
                        "type": "function",
                        "function": {"name": "thoi_tiet", "arguments": '{"nơi": "Huế"}'},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "1", "content": "Mưa"},
        ]
    )
    segments = ChatTemplate(QWEN, ["<|im_start|>", "<|im_end|>"], {}).render(
        messages, tools=plan.template_tools
    )
    prompt = "".join(text for text, _ in segments)
    assert '<tool_call>\n{"name": "thoi_tiet", "arguments": {"nơi": "Huế"}}\n</tool_call>' in prompt
    assert "Thời tiết ở một nơi" in prompt and "<|im_start|>tool\nMưa" in prompt


def test_a_template_without_tool_support(model: binhdan.Model) -> None:
    plan = plan_tools(model.metadata("tokenizer.chat_template"), TOOLS)
    call = {"id": "1", "type": "function", "function": {"name": "gio", "arguments": "{}"}}
    wrong = {"id": "2", "type": "function", "function": {"name": "gio", "arguments": "{'a'"}}
    messages = plan.messages(
        [
            {"role": "system", "content": "Ngắn gọn."},
            {"role": "user", "content": "Mấy giờ?"},
            {"role": "assistant", "content": "Để xem.", "tool_calls": [call, wrong]},
            {"role": "tool", "tool_call_id": "1", "content": "Bảy giờ"},
            {"role": "tool", "tool_call_id": "2", "content": "lỗi"},
            {"role": "user", "content": "Cảm ơn"},
        ]
    )
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user", "user"]
    system = messages[0]["content"]
    assert system.startswith("Ngắn gọn.\n\n# Tools") and system.count('{"type": "function"') == 2
    assert "Thời tiết ở một nơi" in system
    assert messages[2] == {
        "role": "assistant",
        "content": 'Để xem.\n<tool_call>\n{"name": "gio", "arguments": {}}\n</tool_call>\n'
        '<tool_call>\n{"name": "gio", "arguments": "{\'a\'"}\n</tool_call>',
    }
    assert messages[3]["content"] == (
        "<tool_response>\nBảy giờ\n</tool_response>\n<tool_response>\nlỗi\n</tool_response>"
    )
    assert model.chat_tokens(messages)  # type: ignore[arg-type]


def test_earlier_calls_in_a_request_without_tools() -> None:
    messages = [
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "gio", "arguments": ""}}]},
        {"role": "tool", "content": "Bảy giờ"},
    ]
    for choice in (None, "none"):
        plan = plan_tools(None, TOOLS if choice else None, choice)
        assert plan.spec is plan.template_tools is plan.parser() is None
        converted = plan.messages(messages)
        assert [message["role"] for message in converted] == ["assistant", "user"]
        assert '{"name": "gio", "arguments": {}}' in converted[0]["content"]
    assert messages[0]["tool_calls"]  # the caller's messages are not changed


def test_messages_without_calls_are_not_changed() -> None:
    messages = [{"role": "user", "content": "Chào", "tool_calls": None}]
    for template in (None, QWEN):
        assert plan_tools(template).messages(messages) == [{"role": "user", "content": "Chào"}]


@pytest.mark.parametrize(
    ("template", "format"),
    [
        (None, None),
        ("{% for message in messages %}<|im_start|>{% endfor %}", None),
        (QWEN, HERMES),
        (LLAMA, LLAMA3),
        ("{% if tools %}[AVAILABLE_TOOLS]{% endif %}[TOOL_CALLS]", MISTRAL),
        ("{% if tools %}{% endif %}[TOOL_CALLS]name[ARGS]", None),
        ("{% if tools %}<tool_call>\n<function=name>{% endif %}", None),
        ("{% if tools %}<tool_call>name\n<arg_key>key</arg_key>{% endif %}", None),
        (r"""{% if tools %}{{ '<tool_call>{\"name\": ' }}{% endif %}""", HERMES),
        ("{% if tools %}<｜tool▁calls▁begin｜>{% endif %}", None),
    ],
)
def test_formats_of_templates(template: str | None, format: ToolFormat | None) -> None:
    assert known_format(template) == format
    plan = plan_tools(template, TOOLS)
    assert plan.native == (format is not None) and plan.format == (format or HERMES)


# ---- invalid requests --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tools", "choice", "param", "why"),
    [
        ("a", None, "tools", "a list"),
        ([1], None, "tools[0]", "an object"),
        ([{"type": "code_interpreter"}], None, "tools[0]", '"type": "function"'),
        ([{"type": "function", "function": 1}], None, "tools[0].function", "name and parameters"),
        ([{"type": "function", "function": {}}], None, "tools[0].function.name", "1 to 64"),
        ([{"type": "function", "function": {"name": "thời_tiết"}}], None, "tools[0].function.name", "a-z"),
        ([{"type": "function", "function": {"name": 'a"'}}], None, "tools[0].function.name", "a-z"),
        ([CLOCK, CLOCK], None, "tools[1]", "unique function names, got 'gio' twice"),
        ([tool([])], None, "tools[0].function.parameters", "a JSON schema"),
        ([tool({"type": "string"})], None, "tools[0].function.parameters", '"type": "object"'),
        ([tool({}, description=1)], None, "tools[0].function.description", "a string"),
        ([tool({}, strict="yes")], None, "tools[0].function.strict", "true or false"),
        (
            [tool(json.loads('{"a":' * 99 + "{}" + "}" * 99))],
            None,
            "tools[0].function.parameters",
            "depth of up to 64",
        ),
        ([tool({}, description="a" * 200_000)], None, "tools", "131,072 bytes"),
        ([CLOCK] * 129, None, "tools", "up to 128, got 129"),
        ([{"type": "function", "name": "a b"}], None, "tools[0].name", "a-z"),
        (TOOLS, "any", "tool_choice", '"required"'),
        (TOOLS, 1, "tool_choice", '"required"'),
        (
            TOOLS,
            {"type": "function", "function": {"name": "x"}},
            "tool_choice",
            "the name of one of the tools",
        ),
        (TOOLS, {"type": "function", "function": 1}, "tool_choice", "the name of one of the tools"),
    ],
)
def test_invalid_tools(tools: Any, choice: Any, param: str, why: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        plan_tools(None, tools, choice)
    assert why in str(caught.value)
    assert caught.value.param == param


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": "a", "tool_calls": [{"function": {"name": "gio"}}]},
        {"role": "assistant", "tool_calls": {"a": 1}},
        {"role": "assistant", "tool_calls": [1]},
        {"role": "assistant", "tool_calls": [{"function": {"arguments": "{}"}}]},
        {"role": "assistant", "tool_calls": [{"function": {"name": 5}}]},
    ],
)
def test_invalid_calls_in_messages(message: dict[str, Any]) -> None:
    for template in (None, QWEN):
        with pytest.raises(InvalidArgumentError) as caught:
            plan_tools(template).messages([message])
        assert caught.value.param == "messages[0].tool_calls"
