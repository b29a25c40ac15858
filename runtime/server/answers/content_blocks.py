"""The content of an answer of /v1/messages: thinking, text and tool_use blocks, and the events that stream
them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from binhdan.runtime.results import Piece
from binhdan.runtime.server.answers.deltas import DeltaBuilder
from binhdan.runtime.structured.tool_parser import ToolCallParser


class ContentBlocks:
    """Converts the pieces of one answer into blocks. A block ends when a piece of another kind begins, or
    with the answer; `blocks` has the complete ones. `parser` finds tool calls."""

    def __init__(self, parser: ToolCallParser | None) -> None:
        self._deltas = DeltaBuilder(parser)
        self._kind = ""  # of the open block: "thinking", "text", "tool_use", or "" for none
        self._text = ""  # of the open block: its text, or the JSON of the call's input
        self._call: dict[str, Any] = {}  # id and name of the open block
        self.blocks: list[dict[str, Any]] = []

    @property
    def has_calls(self) -> bool:
        return self._deltas.has_calls

    def push(self, piece: Piece) -> Iterator[dict[str, Any]]:
        """The events of a piece."""
        for delta in self._deltas.push(piece):
            yield from self._push(delta)

    def finish(self) -> Iterator[dict[str, Any]]:
        """The last events."""
        for delta in self._deltas.finish():
            yield from self._push(delta)
        yield from self._close()

    def _push(self, delta: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if text := delta.get("reasoning_content"):
            yield from self._add("thinking", text, {"type": "thinking_delta", "thinking": text})
        text = delta.get("content", "")
        around_calls = self._kind in ("", "tool_use") and text.isspace()
        if text and not around_calls:
            yield from self._add("text", text, {"type": "text_delta", "text": text})
        for call in delta.get("tool_calls", ()):
            if "id" in call:
                yield from self._close()
                self._call = {"id": call["id"], "name": call["function"]["name"]}
                yield from self._open("tool_use")
            elif text := call["function"]["arguments"]:
                yield from self._add("tool_use", text, {"type": "input_json_delta", "partial_json": text})

    def _add(self, kind: str, text: str, delta: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield from self._open(kind)
        self._text += text
        yield {"type": "content_block_delta", "index": len(self.blocks), "delta": delta}

    def _open(self, kind: str) -> Iterator[dict[str, Any]]:
        """Makes a block of this kind the open one."""
        if self._kind == kind:
            return
        yield from self._close()
        self._kind = kind
        yield {"type": "content_block_start", "index": len(self.blocks), "content_block": self._block()}

    def _close(self) -> Iterator[dict[str, Any]]:
        if not self._kind:
            return
        if self._kind == "thinking":  # Anthropic's streams sign it; this server does not
            delta = {"type": "signature_delta", "signature": ""}
            yield {"type": "content_block_delta", "index": len(self.blocks), "delta": delta}
        yield {"type": "content_block_stop", "index": len(self.blocks)}
        self.blocks.append(self._block())
        self._kind, self._text = "", ""

    def _block(self) -> dict[str, Any]:
        """The open block."""
        match self._kind:
            case "thinking":
                return {"type": "thinking", "thinking": self._text, "signature": ""}
            case "text":
                return {"type": "text", "text": self._text, "citations": None}
            case _:
                return {"type": "tool_use", **self._call, "input": _object(self._text)}


def _object(text: str) -> dict[str, Any]:
    """The object in a JSON text; {} for one that is cut off."""
    with suppress(ValueError, RecursionError):
        value = json.loads(text)
        if isinstance(value, dict):
            return value
    return {}
