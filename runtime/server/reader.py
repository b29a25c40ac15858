"""What of an answer goes where in OpenAI's message: content, reasoning_content, tool_calls."""

from __future__ import annotations

from typing import Any

from binhdan.runtime.results import Piece
from binhdan.runtime.server.tools import ToolCallParser


class Reader:
    """Turns the pieces of one answer into deltas of its message. `parser` finds the calls of tools."""

    def __init__(self, parser: ToolCallParser | None) -> None:
        self._parser = parser
        self.called = False

    def push(self, piece: Piece) -> list[dict[str, Any]]:
        """The deltas that a piece makes certain."""
        if not piece.text:
            return []
        if piece.kind == "reasoning":
            return [{"reasoning_content": piece.text}]
        if self._parser is None:
            return [{"content": piece.text}]
        return self._deltas(self._parser.push(piece.text))

    def finish(self) -> list[dict[str, Any]]:
        """Those of what was held back."""
        return [] if self._parser is None else self._deltas(self._parser.finish())

    def _deltas(self, parts: object) -> list[dict[str, Any]]:
        raise NotImplementedError
