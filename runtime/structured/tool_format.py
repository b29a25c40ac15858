"""How models write calls of functions, and grammars for it.

Hermes (also Qwen, and what models are asked for whose template knows no tools):
    <tool_call>
    {"name": "thời_tiết", "arguments": {"nơi": "Huế"}}
    </tool_call>
Llama 3:  {"name": …, "parameters": {…}}, perhaps after the control token <|python_tag|>; one call only
Mistral:  [{"name": …, "arguments": {…}}, …], after the control token [TOOL_CALLS]

Control tokens are in no text: the last two are known by how the answer begins.
"""

from __future__ import annotations

import json
import re
import secrets
import string
from collections.abc import Sequence
from dataclasses import dataclass

MOST_CALLS = 16  # in one answer: a small model may not know when to stop


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """The calls of an answer: before, call (between, call)*, after. A call: begin, JSON object, end."""

    begin: str = ""
    end: str = ""
    before: str = ""
    between: str | None = None  # None: one call only
    after: str = ""
    arguments: str = "arguments"  # the key beside "name"
    marker: str = ""  # with it, calls may follow text; without, they are the whole answer
    control: str = ""  # a control token that may stand before all
    id_length: int = 24
    id_prefix: str = "call_"

    def new_id(self) -> str:
        letters = string.ascii_letters + string.digits
        return self.id_prefix + "".join(secrets.choice(letters) for _ in range(self.id_length))

    def write(self, name: str, arguments: str) -> str:
        """One call as text; `arguments` is JSON."""
        name = json.dumps(name, ensure_ascii=False)
        return f'{self.begin}{{"name": {name}, "{self.arguments}": {arguments}}}{self.end}'


HERMES = ToolFormat(begin="<tool_call>\n", end="\n</tool_call>", between="\n", marker="<tool_call>")
LLAMA3 = ToolFormat(arguments="parameters", control="<|python_tag|>")
MISTRAL = ToolFormat(
    before="[", between=", ", after="]", control="[TOOL_CALLS]", id_prefix="", id_length=9
)  # its templates insist on ids of 9 letters and digits


def known_format(template: str | None) -> ToolFormat | None:
    """The format that a chat template asks for; None when it has no tools or writes calls in another way."""
    if not template or not re.search(r"\btools\b", template):
        return None
    # Others write between these marks what is no JSON (Qwen3-Coder, GLM).
    if "<tool_call>" in template and "<function=" not in template and '"name"' in template.replace("\\", ""):
        return HERMES
    if "[TOOL_CALLS]" in template and "[ARGS]" not in template:
        return MISTRAL
    if "<|start_header_id|>" in template and '"parameters"' in template.replace("'", '"'):
        return LLAMA3
    return None


def grammar(format: ToolFormat, functions: Sequence[tuple[str, str]], *, forced: bool, parallel: bool) -> str:
    """A Lark grammar for answers that call functions, or are text where calls are not `forced`.

    `functions`: names, of letters that need no escape, and the names of the grammars of their arguments.
    """
    first = f'{format.before}{format.begin}{{"name": "'
    close = _literal("}" + format.end)
    names = " | ".join(
        _literal(f'{name}", "{format.arguments}": ') + f" @{arguments}" for name, arguments in functions
    )
    calls = f"function {close}"
    if parallel and format.between is not None:
        again = _literal(f'{format.between}{format.begin}{{"name": "')
        calls += f" ({again} function {close}){{0,{MOST_CALLS - 1}}}"
    if format.after:
        calls += f" {_literal(format.after)}"
    rules = f"function: {names}\n"
    if forced:
        return f"start: {_literal(first)} {calls}\n{rules}"
    # Once a call has begun (lazy: at the first marker), nothing but calls may follow. A thought is no text:
    # what stands in it begins no call.
    text = "/(?s:.*)/ & ~/<think>(?s:.*)/"
    if format.marker:
        rest = first.split(format.marker, 1)[1]
        rules += f"head[lazy]: TEXT {_literal(format.marker)}\nTEXT: {text}\n"
        return f"start: TEXT | head {_literal(rest)} {calls}\n{rules}"
    begin = "\\s{0,2}" + _pattern(first)
    rules += f"head[lazy]: /{begin}/\nTEXT: {text} & ~/{begin}(?s:.*)/\n"
    return f"start: TEXT | head {calls}\n{rules}"


def _literal(text: str) -> str:
    return json.dumps(text)


def _pattern(text: str) -> str:
    return re.sub(r"([^\w \":,])", r"\\\1", text)
