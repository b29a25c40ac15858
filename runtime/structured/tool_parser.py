"""Parses tool calls from the text of a streaming answer."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from binhdan.runtime.structured.tool_format import MAX_CALLS, ToolFormat

_MAX_CALL = 1 << 16  # characters of an incomplete call that are buffered
_MAX_SPACES = 64
_PIECE = 512  # characters per step: each step copies the remaining buffer
# Whitespace is bounded, because an undecided call is matched again for each piece.
_HEADER = re.compile(
    r'\s{0,64}\{\s{0,64}"name"\s{0,64}:\s{0,64}"(?P<name>[^"\\]{1,256})"'
    r'\s{0,64},\s{0,64}"(?:arguments|parameters)"\s{0,64}:\s{0,64}(?=\{)'
)
_FIRST_KEY = re.compile(r'\s{0,64}\{\s{0,64}(?:"(?P<key>[^"\\]{0,64})"|[^\s"])')
_CALL_KEYS = ("name", "arguments", "parameters", "type", "id")
_BEGIN = re.compile(r"\s{0,64}(?:\{|$)")
_STRUCTURAL = re.compile(r'["\\{}\[\]]')


@dataclass(frozen=True, slots=True)
class TextPart:
    """Text for the user."""

    text: str


@dataclass(frozen=True, slots=True)
class CallPart:
    """The start of a call; its arguments follow."""

    index: int  # 0 for the answer's first call
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ArgumentsPart:
    """A piece of the JSON text of a call's arguments."""

    index: int
    text: str


Part = TextPart | CallPart | ArgumentsPart


class ToolCallParser:
    """Splits an answer into text and calls: `push` each piece of text, then `finish`.

    The result does not depend on how the text is cut into pieces. No text is lost: text that is not a call,
    or a call of a function that is not in `names`, is returned as text. Only an undecided call and the
    whitespace before it are buffered. Arguments stream after the call's name, so that an answer that ends
    early has incomplete arguments, like OpenAI's.
    """

    def __init__(self, format: ToolFormat, names: Collection[str]) -> None:
        self._format = format
        self._names = frozenset(names)
        self._buffer = ""
        self._state = self._text if format.marker else self._start
        self._calls = 0
        self._value = _ValueEnd()
        self._opening = ""  # the text before the current call's JSON
        self._after = False  # only whitespace since the end of a call
        self._parts: list[Part] = []

    @property
    def calls(self) -> int:
        """Number of calls that have started."""
        return self._calls

    def push(self, text: str) -> list[Part]:
        """Adds text and returns the parts that are decided."""
        for i in range(0, len(text), _PIECE):
            self._buffer += text[i : i + _PIECE]
            self._run(False)
        return self._take()

    def finish(self) -> list[Part]:
        """Returns the remaining parts at the end of the answer."""
        self._run(True)
        return self._take()

    def _run(self, final: bool) -> None:
        # A state returns True when it changed the state: the new one parses the remaining buffer.
        while self._state(final):
            pass

    def _take(self) -> list[Part]:
        parts, self._parts = self._parts, []
        return parts

    # ---- states --------------------------------------------------------------------------------------------

    def _text(self, final: bool) -> bool:
        """Text up to a marker."""
        text, marker = self._buffer, self._format.marker
        place = text.find(marker)
        if place >= 0 and self._calls < MAX_CALLS:
            spaces = _trailing_spaces(text[:place])
            self._emit_text(text[: place - spaces])
            self._begin(text[place - spaces : place + len(marker)], text[place + len(marker) :])
            return True
        held = 0 if final else _held(text, marker)
        self._emit_text(text[: len(text) - held])
        self._buffer = text[len(text) - held :]
        return False

    def _start(self, final: bool) -> bool:
        """The beginning of an answer that consists of calls only, or of text only."""
        text = self._buffer.lstrip()
        spaces = self._buffer[: len(self._buffer) - len(text)]
        before = self._format.before
        if text and text.startswith(before):
            self._begin(spaces + before, text[len(before) :])
        elif not final and before.startswith(text) and len(spaces) <= _MAX_SPACES:
            return False
        else:
            self._state = self._rest
        return True

    def _call(self, final: bool) -> bool:
        """A call before its name is complete."""
        text = self._buffer
        header = _HEADER.match(text)
        if header and header["name"] in self._names:
            self._open(header["name"])
            self._buffer = text[header.end() :]
            self._value = _ValueEnd()
            self._state = self._arguments
            return True
        begin = _BEGIN.match(text)
        first = _FIRST_KEY.match(text)
        if header or not begin or (first and first["key"] not in _CALL_KEYS):
            return self._not_a_call(0)
        # Another order of keys, or arguments that are not an object: wait for the whole object.
        end = self._value.find(text)
        if end is None and not final and len(text) <= _MAX_CALL:
            return False
        if end is None or end > _MAX_CALL:
            self._emit_text(self._opening)
            self._state = self._rest
            return True
        call = _parse(text[:end])
        if call is None or call[0] not in self._names:
            return self._not_a_call(end)
        self._open(call[0])
        self._parts.append(ArgumentsPart(self._calls - 1, call[1]))
        self._buffer = text[end:]
        self._state = self._close
        return True

    def _arguments(self, final: bool) -> bool:
        """Inside the arguments, a JSON object."""
        text = self._buffer
        end = self._value.find(text)
        done = len(text) if end is None else end
        if done:
            self._parts.append(ArgumentsPart(self._calls - 1, text[:done]))
        self._buffer = text[done:]
        self._value.forget(done)
        if end is None:
            return False
        self._state = self._close_object
        return True

    def _close_object(self, final: bool) -> bool:
        """The brace after the arguments."""
        text = self._buffer.lstrip()
        if not text and not final:
            return False
        self._buffer = text.removeprefix("}")
        self._state = self._close
        return True

    def _close(self, final: bool) -> bool:
        """The end marker after a call."""
        end = self._format.end.strip()
        text = self._buffer.lstrip()
        if not final and len(text) < len(end) and end.startswith(text):
            return False
        self._buffer = text.removeprefix(end)
        self._after = True
        self._state = self._text if self._format.marker else self._between
        return True

    def _between(self, final: bool) -> bool:
        """After a call, in formats without a marker."""
        text = self._buffer.lstrip()
        if not text:
            self._buffer = ""
            return False
        separator = (self._format.between or "").strip()
        if separator and text.startswith(separator) and self._calls < MAX_CALLS:
            self._begin(text[: len(separator)], text[len(separator) :])
            return True
        self._buffer = text.removeprefix(self._format.after)
        self._state = self._rest
        return True

    def _rest(self, final: bool) -> bool:
        """Text up to the end of the answer."""
        self._emit_text(self._buffer)
        self._buffer = ""
        return False

    # ---- steps ---------------------------------------------------------------------------------------------

    def _begin(self, opening: str, rest: str) -> None:
        self._opening, self._buffer = opening, rest
        self._value = _ValueEnd()
        self._state = self._call

    def _open(self, name: str) -> None:
        self._parts.append(CallPart(self._calls, self._format.new_id(), name))
        self._calls += 1

    def _not_a_call(self, length: int) -> bool:
        """Emits the first `length` characters as text: they are not a call."""
        self._emit_text(self._opening + self._buffer[:length])
        self._buffer = self._buffer[length:]
        self._state = self._text if self._format.marker else self._rest
        return True

    def _emit_text(self, text: str) -> None:
        if self._after:  # whitespace after a call is not text
            text = text.lstrip()
            self._after = not text
        if text:
            self._parts.append(TextPart(text))


class _ValueEnd:
    """Finds the end of a JSON object in growing text; scans each character once."""

    def __init__(self) -> None:
        self._place = 0
        self._depth = 0
        self._quoted = False

    def find(self, text: str) -> int | None:
        """The index after the object, None while it is incomplete."""
        while True:
            match = _STRUCTURAL.search(text, self._place)
            if match is None:
                self._place = max(self._place, len(text))
                return None
            mark, place = match[0], match.end()
            if mark == "\\":
                place += 1  # skips the escaped character, which may not have arrived yet
            elif mark == '"':
                self._quoted = not self._quoted
            elif not self._quoted:
                self._depth += 1 if mark in "{[" else -1
            self._place = place
            if self._depth <= 0 and not self._quoted and mark in "}]":
                return place

    def forget(self, count: int) -> None:
        """Accounts for `count` characters that were removed from the start of the text."""
        self._place = max(self._place - count, 0)


def _parse(text: str) -> tuple[str, str] | None:
    """Name and arguments (JSON text) of a complete call; None when it is not a call."""
    try:
        call = json.loads(text)
        name: Any = call["name"]
        arguments = call["arguments"] if "arguments" in call else call["parameters"]
        if isinstance(arguments, str):  # some models encode the arguments as a string
            arguments = json.loads(arguments)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not isinstance(name, str) or not isinstance(arguments, dict):
        return None
    return name, json.dumps(arguments, ensure_ascii=False)


def _held(text: str, marker: str) -> int:
    """Length of the end that may start a call: a prefix of the marker and the whitespace before it."""
    held = next((n for n in range(min(len(marker) - 1, len(text)), 0, -1) if marker.startswith(text[-n:])), 0)
    return held + _trailing_spaces(text[: len(text) - held])


def _trailing_spaces(text: str) -> int:
    return min(len(text) - len(text.rstrip()), _MAX_SPACES)
