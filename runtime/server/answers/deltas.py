"""Deltas of OpenAI's assistant message: content, reasoning_content, tool_calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from binhdan.runtime.results import Piece
from binhdan.runtime.structured.tool_parser import ArgumentsPart, CallPart, Part, TextPart, ToolCallParser


class DeltaBuilder:
    """Converts the pieces of one answer into deltas. `parser` finds tool calls; None: the answer has none.
    `legacy`: the form of OpenAI's API before tools, with one function_call."""

    def __init__(self, parser: ToolCallParser | None, *, legacy: bool = False) -> None:
        self._parser = parser
        self._legacy = legacy

    @property
    def call_reason(self) -> str:
        """The finish reason of an answer with calls."""
        return "function_call" if self._legacy else "tool_calls"

    @property
    def content_only(self) -> bool:
        """True if all text that is not reasoning is content."""
        return self._parser is None

    @property
    def has_calls(self) -> bool:
        """True if the answer has called a function."""
        return self._parser is not None and self._parser.calls > 0

    def push(self, piece: Piece) -> list[dict[str, Any]]:
        """The deltas that are certain after `piece`. Text that may begin a tool call is held back."""
        if not piece.text:
            return []
        if piece.kind == "reasoning":
            return [{"reasoning_content": piece.text}]
        if self._parser is None:
            return [{"content": piece.text}]
        return self._deltas(self._parser.push(piece.text))

    def finish(self) -> list[dict[str, Any]]:
        """The deltas of the text that was held back."""
        return [] if self._parser is None else self._deltas(self._parser.finish())

    def _deltas(self, parts: Sequence[Part]) -> list[dict[str, Any]]:
        deltas = _deltas(parts)
        if not self._legacy:
            return deltas
        return [
            {"function_call": call["function"]} for delta in deltas for call in delta.get("tool_calls", ())
        ] + [delta for delta in deltas if "content" in delta]


class MessageBuilder:
    """Combines deltas into one assistant message."""

    def __init__(self) -> None:
        self._content = ""
        self._reasoning = ""
        self._calls: list[dict[str, Any]] = []
        self._function: dict[str, str] = {}  # the function_call

    def add(self, delta: dict[str, Any]) -> None:
        self._content += delta.get("content", "")
        self._reasoning += delta.get("reasoning_content", "")
        for field, text in delta.get("function_call", {}).items():
            self._function[field] = self._function.get(field, "") + text
        for call in delta.get("tool_calls", ()):
            if call["index"] == len(self._calls):
                function = {"name": "", "arguments": ""}
                self._calls.append({"id": call["id"], "type": "function", "function": function})
            for field, text in call["function"].items():
                self._calls[call["index"]]["function"][field] += text

    def message(self) -> dict[str, Any]:
        """OpenAI's message object."""
        content = self._content if self._content or not (self._calls or self._function) else None
        message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
        if self._reasoning:
            message["reasoning_content"] = self._reasoning
        if self._calls:
            message["tool_calls"] = self._calls
        if self._function:
            message["function_call"] = self._function
        return message


def _deltas(parts: Sequence[Part]) -> list[dict[str, Any]]:
    deltas: list[dict[str, Any]] = []
    for part in parts:
        match part:
            case TextPart(text):
                deltas.append({"content": text})
            case CallPart(index, id, name):
                call = {"index": index, "id": id, "type": "function"}
                deltas.append({"tool_calls": [call | {"function": {"name": name, "arguments": ""}}]})
            case ArgumentsPart(index, text):
                deltas.append({"tool_calls": [{"index": index, "function": {"arguments": text}}]})
    return deltas
