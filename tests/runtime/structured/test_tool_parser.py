"""runtime/structured/tool_parser.py: parses calls from a stream, however it is split."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binhdan.runtime.structured.tool_format import HERMES, LLAMA3, MAX_CALLS, MISTRAL, ToolFormat
from binhdan.runtime.structured.tool_parser import ArgumentsPart, CallPart, Part, TextPart, ToolCallParser

NAMES = ["thoi_tiet", "gio"]
WEATHER = '{"nơi": "Huế {\\"cố đô\\"} \\\\", "ngày": [1, {"a": "]"}]}'

Result = tuple[str, list[tuple[str, str]]]


def parse(format: ToolFormat, pieces: list[str]) -> Result:
    """Returns the text, and the calls as (name, arguments)."""
    parser = ToolCallParser(format, NAMES)
    parts = [part for piece in pieces for part in parser.push(piece)] + parser.finish()
    return collect(parts)


def collect(parts: list[Part]) -> Result:
    text, calls, ids = "", list[tuple[str, str]](), list[str]()
    for part in parts:
        if isinstance(part, TextPart):
            assert part.text
            text += part.text
        elif isinstance(part, CallPart):
            assert part.index == len(calls)
            calls.append((part.name, ""))
            ids.append(part.id)
        else:
            assert part.text and part.index == len(calls) - 1
            calls[-1] = calls[-1][0], calls[-1][1] + part.text
    assert len(set(ids)) == len(ids)
    return text, calls


def hermes(name: str, arguments: str) -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


CASES: list[tuple[ToolFormat, str, str, list[tuple[str, str]]]] = [
    # Hermes
    (HERMES, "", "", []),
    (HERMES, "Chào bạn.", "Chào bạn.", []),
    (HERMES, hermes("gio", "{}"), "", [("gio", "{}")]),
    (HERMES, hermes("thoi_tiet", WEATHER), "", [("thoi_tiet", WEATHER)]),
    (HERMES, "Để xem.\n\n" + hermes("gio", "{}") + "\n", "Để xem.", [("gio", "{}")]),
    (
        HERMES,
        hermes("gio", "{}") + "\n" + hermes("thoi_tiet", '{"nơi": 1}'),
        "",
        [("gio", "{}"), ("thoi_tiet", '{"nơi": 1}')],
    ),
    (HERMES, hermes("gio", "{}") + "\n\nXong rồi. ", "Xong rồi. ", [("gio", "{}")]),
    (HERMES, '<tool_call>{"name":"gio","arguments":{}}</tool_call>', "", [("gio", "{}")]),
    (HERMES, '<tool_call>\n{"arguments": {"a": 1}, "name": "gio"}\n</tool_call>', "", [("gio", '{"a": 1}')]),
    (
        HERMES,
        '<tool_call>\n{"name": "gio", "arguments": "{\\"a\\": 1}"}\n</tool_call>',
        "",
        [("gio", '{"a": 1}')],
    ),
    (HERMES, '<tool_call>\n{"name": "gio", "parameters": {}}\n</tool_call>', "", [("gio", "{}")]),
    # Hermes, truncated
    (HERMES, '<tool_call>\n{"name": "gio", "arguments": {"a": [1,', "", [("gio", '{"a": [1,')]),
    (HERMES, '<tool_call>\n{"name": "gio", "arguments": {}', "", [("gio", "{}")]),
    (HERMES, '<tool_call>\n{"name": "gio", "arguments": {}}\n</tool', "</tool", [("gio", "{}")]),
    # Hermes, no valid call
    (HERMES, "a <tool_call> b", "a <tool_call> b", []),
    (HERMES, "1 < 2 <tool", "1 < 2 <tool", []),
    (HERMES, "a\n<tool_call>", "a\n<tool_call>", []),
    (HERMES, '<tool_call>\n{"name": "gi', '<tool_call>\n{"name": "gi', []),
    (HERMES, hermes("xoa_het", "{}"), hermes("xoa_het", "{}"), []),
    (HERMES, hermes("gio", "[]"), hermes("gio", "[]"), []),
    (HERMES, '<tool_call>\n{"tên": 1}\n</tool_call> ạ', '<tool_call>\n{"tên": 1}\n</tool_call> ạ', []),
    (HERMES, '<tool_call>\n{"name": {}, "arguments": 1}', '<tool_call>\n{"name": {}, "arguments": 1}', []),
    (HERMES, "<tool_call><tool_call>" + hermes("gio", "{}"), "<tool_call><tool_call>", [("gio", "{}")]),
    # Llama 3: one call, at the beginning of the answer
    (LLAMA3, '{"name": "gio", "parameters": {}}', "", [("gio", "{}")]),
    (LLAMA3, '\n{"name": "thoi_tiet", "parameters": ' + WEATHER + "}\n", "", [("thoi_tiet", WEATHER)]),
    (LLAMA3, '{"type": "function", "name": "gio", "parameters": {}}', "", [("gio", "{}")]),
    (LLAMA3, "Chào {bạn}.", "Chào {bạn}.", []),
    (LLAMA3, ' {"name": "An"}', ' {"name": "An"}', []),
    (LLAMA3, '{"tuổi": 1, "tên": "An"} ạ', '{"tuổi": 1, "tên": "An"} ạ', []),
    (LLAMA3, '{"name": "gio", "parameters": {}}; xong', "; xong", [("gio", "{}")]),
    (LLAMA3, 'Đây: {"name": "gio", "parameters": {}}', 'Đây: {"name": "gio", "parameters": {}}', []),
    (LLAMA3, " \n ", " \n ", []),
    # Mistral: a list of calls
    (MISTRAL, ' [{"name": "gio", "arguments": {}}]', "", [("gio", "{}")]),
    (
        MISTRAL,
        '[{"name": "gio", "arguments": {}}, {"name": "thoi_tiet", "arguments": ' + WEATHER + "}]",
        "",
        [("gio", "{}"), ("thoi_tiet", WEATHER)],
    ),
    (MISTRAL, "[1, 2]", "[1, 2]", []),
    (MISTRAL, "[", "[", []),
    (MISTRAL, '[{"name": "gio", "arguments": {}}] xong', "xong", [("gio", "{}")]),
]


@pytest.mark.parametrize(("format", "answer", "text", "calls"), CASES)
def test_calls_of_each_format_for_every_split(
    format: ToolFormat, answer: str, text: str, calls: list[tuple[str, str]]
) -> None:
    assert parse(format, [answer]) == (text, calls)
    assert parse(format, list(answer)) == (text, calls)
    for i in range(1, len(answer)):
        assert parse(format, [answer[:i], answer[i:]]) == (text, calls)


PIECES = """
    <tool_call> </tool_call> <tool _call> < à } }} {} [ ] " \\ , {"name":" gio","parameters":
    {"name":"gio","arguments":{ {"arguments":1
"""


@given(
    st.sampled_from([HERMES, LLAMA3, MISTRAL]),
    st.lists(st.sampled_from(["\n", " ", *PIECES.split()]), max_size=20),
    st.integers(1, 7),
)
def test_the_split_does_not_change_the_result(format: ToolFormat, pieces: list[str], size: int) -> None:
    answer = "".join(pieces)
    whole = parse(format, [answer])
    assert parse(format, pieces) == whole
    assert parse(format, [answer[i : i + size] for i in range(0, len(answer), size)]) == whole
    if not whole[1]:
        assert whole[0] == answer  # no text is lost


@given(
    st.dictionaries(st.text(max_size=4), st.text(max_size=8) | st.integers(), max_size=3), st.text(max_size=9)
)
def test_arguments_are_passed_unchanged(arguments: dict[str, object], text: str) -> None:
    written = json.dumps(arguments, ensure_ascii=False)
    answer = text + hermes("gio", written)
    if "<tool_call>" not in text:
        assert parse(HERMES, list(answer)) == (text.rstrip(), [("gio", written)])


def test_parts_are_returned_as_soon_as_they_are_certain() -> None:
    parser = ToolCallParser(HERMES, NAMES)
    assert parser.push("Xin") == [TextPart("Xin")]
    assert parser.push(" \n<to") == []
    assert parser.push("i>") == [TextPart(" \n<toi>")]
    assert parser.push('\n<tool_call>\n{"name": "gio", "arguments": ') == []
    parts = parser.push('{"a"')
    assert isinstance(parts[0], CallPart) and (parts[0].index, parts[0].name) == (0, "gio")
    assert parts[1:] == [ArgumentsPart(0, '{"a"')]
    assert parser.push(": 1}") == [ArgumentsPart(0, ": 1}")]
    assert parser.push("}\n</tool_call>") == []
    assert parser.calls == 1 and parser.finish() == []


def test_ids_of_calls() -> None:
    for format, pattern in ((HERMES, r"call_\w{24}"), (MISTRAL, r"[A-Za-z0-9]{9}")):
        ids = {format.new_id() for _ in range(100)}
        assert len(ids) == 100 and all(re.fullmatch(pattern, id) for id in ids)


def test_withheld_text_is_bounded() -> None:
    parser = ToolCallParser(HERMES, NAMES)
    text = '<tool_call>\n{"arguments": {"a": "' + "à" * 200_000
    withheld = text
    for i in range(0, len(text), 1000):
        for part in parser.push(text[i : i + 1000]):
            assert isinstance(part, TextPart)
            withheld = withheld.removeprefix(part.text)
        assert i + 1000 - (len(text) - len(withheld)) < 70_000
    for blanks in ("\n" * 100_000, "<tool_call>" + " " * 100_000):
        parser = ToolCallParser(HERMES, NAMES)
        assert sum(len(part.text) for part in parser.push(blanks) if isinstance(part, TextPart)) > 99_000
    for format in (LLAMA3, MISTRAL):
        assert ToolCallParser(format, NAMES).push(" " * 1000)


def test_the_number_of_calls_is_limited() -> None:
    text, calls = parse(HERMES, [hermes("gio", "{}") * (MAX_CALLS + 2)])
    assert len(calls) == MAX_CALLS and text == hermes("gio", "{}") * 2


@pytest.mark.slow
def test_hostile_text_takes_linear_time() -> None:
    for text in ("<tool_call>" * 50_000, "<" * 500_000, '<tool_call>{"name":' * 30_000, "\n" * 500_000):
        for pieces in ([text], [text[i : i + 50] for i in range(0, len(text), 50)]):
            assert parse(HERMES, pieces)[0] == text
