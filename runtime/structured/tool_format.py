"""Formats in which models write tool calls, and grammars for them.

Hermes (also Qwen, and the default for templates without tools):
    <tool_call>
    {"name": "thời_tiết", "arguments": {"nơi": "Huế"}}
    </tool_call>
Llama 3:  {"name": …, "parameters": {…}}, optionally after the control token <|python_tag|>; one call only
Mistral:  [{"name": …, "arguments": {…}}, …], after the control token [TOOL_CALLS]

Control tokens are not part of the text: the last two formats are recognised by the beginning of the answer.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import string
from collections.abc import Sequence
from dataclasses import dataclass

MAX_CALLS = 16  # per answer: a small model may repeat calls without end


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """An answer with calls is: before, call (between, call)*, after. A call is: begin, JSON object, end."""

    begin: str = ""
    end: str = ""
    before: str = ""
    between: str | None = None  # None: one call only
    after: str = ""
    arguments: str = "arguments"  # the key of the arguments, after "name"
    marker: str = ""  # with a marker, calls may follow text; without one, calls are the whole answer
    control: str = ""  # an optional control token before the answer
    id_length: int = 24
    id_prefix: str = "call_"

    def new_id(self) -> str:
        letters = string.ascii_letters + string.digits
        return self.id_prefix + "".join(secrets.choice(letters) for _ in range(self.id_length))

    def valid_id(self, id: str) -> str:
        """`id` if templates of this format accept it, else another one that depends on it alone."""
        if self.id_prefix or re.fullmatch(rf"[A-Za-z0-9]{{{self.id_length}}}", id):
            return id
        digest = hashlib.sha256(id.encode("utf-8", "replace")).hexdigest()
        return digest[: self.id_length]

    def write(self, name: str, arguments: str) -> str:
        """One call as text; `arguments` is JSON."""
        name = json.dumps(name, ensure_ascii=False)
        return f'{self.begin}{{"name": {name}, "{self.arguments}": {arguments}}}{self.end}'


HERMES = ToolFormat(begin="<tool_call>\n", end="\n</tool_call>", between="\n", marker="<tool_call>")
LLAMA3 = ToolFormat(arguments="parameters", control="<|python_tag|>")
MISTRAL = ToolFormat(
    before="[", between=", ", after="]", control="[TOOL_CALLS]", id_prefix="", id_length=9
)  # its templates require ids of 9 letters and digits


def known_format(template: str | None) -> ToolFormat | None:
    """The tool format of a chat template; None when it has no tools or an unknown format."""
    if not template or not re.search(r"\btools\b", template):
        return None
    # Qwen3-Coder and GLM use the same markers around content that is not JSON.
    if "<tool_call>" in template and "<function=" not in template and '"name"' in template.replace("\\", ""):
        return HERMES
    if "[TOOL_CALLS]" in template and "[ARGS]" not in template:
        return MISTRAL
    if "<|start_header_id|>" in template and '"parameters"' in template.replace("'", '"'):
        return LLAMA3
    return None


def grammar(
    format: ToolFormat,
    functions: Sequence[tuple[str, str]],
    *,
    forced: bool,
    parallel: bool,
    form: str | None = None,
) -> str:
    """A Lark grammar for answers with calls; unless `forced`, plain text is allowed too.

    `functions`: pairs of function name (no character that needs an escape) and name of its arguments'
    grammar. `form`: name of a grammar that replaces the plain text.
    """
    first = f'{format.before}{format.begin}{{"name": "'
    close = _literal("}" + format.end)
    names = " | ".join(
        _literal(f'{name}", "{format.arguments}": ') + f" @{arguments}" for name, arguments in functions
    )
    calls = f"function {close}"
    if parallel and format.between is not None:
        again = _literal(f'{format.between}{format.begin}{{"name": "')
        calls += f" ({again} function {close}){{0,{MAX_CALLS - 1}}}"
    if format.after:
        calls += f" {_literal(format.after)}"
    rules = f"function: {names}\n"
    if forced:
        return f"start: {_literal(first)} {calls}\n{rules}"
    if form is not None:
        return f"start: @{form} | {_literal(first)} {calls}\n{rules}"
    # After the first marker (hence lazy) only calls may follow. Reasoning is not text: a marker inside it
    # does not start a call.
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
