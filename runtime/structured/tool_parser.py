"""Calls of functions out of the text of an answer, as it streams."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from binhdan.runtime.structured.tool_format import MOST_CALLS, ToolFormat

_MOST_CALL = 1 << 16  # characters of a call that are held back until it is whole
_MOST_BLANKS = 64
_PIECE = 512  # characters looked at together: what is left of them is copied at each step
# Blanks are bounded, since a call that is not certain is looked at again with each piece.
_HEADER = re.compile(
    r'\s{0,64}\{\s{0,64}"name"\s{0,64}:\s{0,64}"(?P<name>[^"\\]{1,256})"'
    r'\s{0,64},\s{0,64}"(?:arguments|parameters)"\s{0,64}:\s{0,64}(?=\{)'
)
_FIRST_KEY = re.compile(r'\s{0,64}\{\s{0,64}(?:"(?P<key>[^"\\]{0,64})"|[^\s"])')
_CALL_KEYS = ("name", "arguments", "parameters", "type", "id")
_BEGIN = re.compile(r"\s{0,64}(?:\{|$)")
_NOTABLE = re.compile(r'["\\{}\[\]]')


@dataclass(frozen=True, slots=True)
class TextPart:
    """Text for the user."""

    text: str


@dataclass(frozen=True, slots=True)
class CallPart:
    """A call begins; its arguments follow."""

    index: int  # 0 for the answer's first call
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ArgumentsPart:
    """More of the JSON text of a call's arguments."""

    index: int
    text: str


Part = TextPart | CallPart | ArgumentsPart


class ToolCallParser:
    """Splits an answer into text and calls: `push` each piece of text, then `finish`.

    Where pieces are cut never matters. No text is lost: what turns out to be no call, or the call of a
    function that is not in `names`, comes out as text. Held back are at most the call that is not certain
    yet and the blanks before one. Arguments stream once the call's name has come, so those of an answer that
    ends early may be incomplete, as OpenAI's are.
    """

    def __init__(self, format: ToolFormat, names: Collection[str]) -> None:
        self._format = format
        self._names = frozenset(names)
        self._buffer = ""
        self._state = self._text if format.marker else self._start
        self._calls = 0
        self._value = _ValueEnd()
        self._opening = ""  # what stood before the call that is being read
        self._after = False  # a call ended, and nothing but blanks came since
        self._parts: list[Part] = []

    @property
    def calls(self) -> int:
        """Calls that have begun so far."""
        return self._calls

    def push(self, text: str) -> list[Part]:
        """What has become certain."""
        for i in range(0, len(text), _PIECE):
            self._buffer += text[i : i + _PIECE]
            self._run(False)
        return self._take()

    def finish(self) -> list[Part]:
        """The rest."""
        self._run(True)
        return self._take()

    def _run(self, final: bool) -> None:
        # A state returns whether it went on to another, which then looks at what is left.
        while self._state(final):
            pass

    def _take(self) -> list[Part]:
        parts, self._parts = self._parts, []
        return parts

    # ---- states --------------------------------------------------------------------------------------------

    def _text(self, final: bool) -> bool:
        """Text, until a marker."""
        text, marker = self._buffer, self._format.marker
        place = text.find(marker)
        if place >= 0 and self._calls < MOST_CALLS:
            blanks = _blanks_at_end(text[:place])
            self._say(text[: place - blanks])
            self._begin(text[place - blanks : place + len(marker)], text[place + len(marker) :])
            return True
        held = 0 if final else _held(text, marker)
        self._say(text[: len(text) - held])
        self._buffer = text[len(text) - held :]
        return False

    def _start(self, final: bool) -> bool:
        """The beginning of an answer that is calls or text as a whole."""
        text = self._buffer.lstrip()
        blanks = self._buffer[: len(self._buffer) - len(text)]
        before = self._format.before
        if text and text.startswith(before):
            self._begin(blanks + before, text[len(before) :])
        elif not final and before.startswith(text) and len(blanks) <= _MOST_BLANKS:
            return False
        else:
            self._state = self._rest
        return True

    def _call(self, final: bool) -> bool:
        """A call whose name is not known yet."""
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
            return self._no_call(0)
        # Perhaps another order of keys, or arguments that are no object: wait for the whole.
        end = self._value.find(text)
        if end is None and not final and len(text) <= _MOST_CALL:
            return False
        if end is None or end > _MOST_CALL:
            self._say(self._opening)
            self._state = self._rest
            return True
        call = _parse(text[:end])
        if call is None or call[0] not in self._names:
            return self._no_call(end)
        self._open(call[0])
        self._parts.append(ArgumentsPart(self._calls - 1, call[1]))
        self._buffer = text[end:]
        self._state = self._close
        return True

    def _arguments(self, final: bool) -> bool:
        """Within the arguments, a JSON object."""
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
        """After a call, where calls are the whole answer."""
        text = self._buffer.lstrip()
        if not text:
            self._buffer = ""
            return False
        separator = (self._format.between or "").strip()
        if separator and text.startswith(separator) and self._calls < MOST_CALLS:
            self._begin(text[: len(separator)], text[len(separator) :])
            return True
        self._buffer = text.removeprefix(self._format.after)
        self._state = self._rest
        return True

    def _rest(self, final: bool) -> bool:
        """Text to the end."""
        self._say(self._buffer)
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

    def _no_call(self, length: int) -> bool:
        """What looked like a call of that length is text."""
        self._say(self._opening + self._buffer[:length])
        self._buffer = self._buffer[length:]
        self._state = self._text if self._format.marker else self._rest
        return True

    def _say(self, text: str) -> None:
        if self._after:  # blanks between calls and after the last are no text
            text = text.lstrip()
            self._after = not text
        if text:
            self._parts.append(TextPart(text))


class _ValueEnd:
    """Finds the end of a JSON object in a text that grows; each character is looked at once."""

    def __init__(self) -> None:
        self._place = 0
        self._depth = 0
        self._quoted = False

    def find(self, text: str) -> int | None:
        """The place after the object, None when it has not come."""
        while True:
            match = _NOTABLE.search(text, self._place)
            if match is None:
                self._place = max(self._place, len(text))
                return None
            mark, place = match[0], match.end()
            if mark == "\\":
                place += 1  # whatever comes next; find() may be called before it is there
            elif mark == '"':
                self._quoted = not self._quoted
            elif not self._quoted:
                self._depth += 1 if mark in "{[" else -1
            self._place = place
            if self._depth <= 0 and not self._quoted and mark in "}]":
                return place

    def forget(self, count: int) -> None:
        """The first `count` characters are gone from the text."""
        self._place = max(self._place - count, 0)


def _parse(text: str) -> tuple[str, str] | None:
    """Name and arguments (a JSON text) of a whole call; None when it is none."""
    try:
        call = json.loads(text)
        name: Any = call["name"]
        arguments = call["arguments"] if "arguments" in call else call["parameters"]
        if isinstance(arguments, str):  # some models write JSON into a string
            arguments = json.loads(arguments)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not isinstance(name, str) or not isinstance(arguments, dict):
        return None
    return name, json.dumps(arguments, ensure_ascii=False)


def _held(text: str, marker: str) -> int:
    """How much of the end may belong to a call: the begin of a marker and blanks before it."""
    held = next((n for n in range(min(len(marker) - 1, len(text)), 0, -1) if marker.startswith(text[-n:])), 0)
    return held + _blanks_at_end(text[: len(text) - held])


def _blanks_at_end(text: str) -> int:
    return min(len(text) - len(text.rstrip()), _MOST_BLANKS)
