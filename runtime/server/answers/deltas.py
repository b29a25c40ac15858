"""What of an answer goes where in OpenAI's message: content, reasoning_content, tool_calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from binhdan.runtime.results import Piece
from binhdan.runtime.structured.tool_parser import ArgumentsPart, CallPart, Part, TextPart, ToolCallParser


class Reader:
    """Turns the pieces of one answer into deltas of its message. `parser` finds the calls of tools."""

    def __init__(self, parser: ToolCallParser | None) -> None:
        self._parser = parser

    @property
    def plain(self) -> bool:
        """Is all text content?"""
        return self._parser is None

    @property
    def called(self) -> bool:
        """Has the answer called a function?"""
        return self._parser is not None and self._parser.calls > 0

    def push(self, piece: Piece) -> list[dict[str, Any]]:
        """The deltas that a piece makes certain."""
        if not piece.text:
            return []
        if piece.kind == "reasoning":
            return [{"reasoning_content": piece.text}]
        if self._parser is None:
            return [{"content": piece.text}]
        return _deltas(self._parser.push(piece.text))

    def finish(self) -> list[dict[str, Any]]:
        """Those of what was held back."""
        return [] if self._parser is None else _deltas(self._parser.finish())


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
