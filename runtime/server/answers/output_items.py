"""The output of a response of /v1/responses: reasoning, message and function_call items, and the events that
stream them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from binhdan.runtime.results import Piece, TokenLogprob
from binhdan.runtime.server.answers.deltas import DeltaBuilder
from binhdan.runtime.structured.tool_parser import ToolCallParser

# The name of an event, and its fields.
Event = tuple[str, dict[str, Any]]


class OutputItems:
    """Converts the pieces of one answer into items. An item ends when a piece of another kind begins, or with
    the answer; `items` has the complete ones.

    `id`: of the response. `parser` finds tool calls. `logprobs` converts those of tokens.
    """

    def __init__(
        self,
        id: str,
        parser: ToolCallParser | None,
        logprobs: Callable[[Sequence[TokenLogprob]], list[dict[str, Any]]],
    ) -> None:
        self._id = id
        self._deltas = DeltaBuilder(parser)
        self._logprobs = logprobs
        self._kind = ""  # of the open item: "reasoning", "message", "function_call", or "" for none
        self._text = ""  # of the open item: its text, or the arguments of the call
        self._call: dict[str, Any] = {}  # call_id and name of the open item
        self._tokens: list[dict[str, Any]] = []  # log probabilities of the open item
        self.items: list[dict[str, Any]] = []

    def push(self, piece: Piece) -> Iterator[Event]:
        """The events of a piece."""
        logprobs = self._logprobs([piece.logprob]) if piece.logprob is not None else []
        for delta in self._deltas.push(piece):
            yield from self._push(delta, logprobs)
            logprobs = []
        self._tokens += logprobs

    def add_logprobs(self, tokens: Sequence[TokenLogprob]) -> None:
        """Adds the log probabilities of an answer that was pushed as one piece without them."""
        self._tokens += self._logprobs(tokens)

    def finish(self, status: str) -> Iterator[Event]:
        """The last events. `status`: of the answer, completed or incomplete."""
        for delta in self._deltas.finish():
            yield from self._push(delta, [])
        if not self.items and not self._kind:
            yield from self._open("message")
        yield from self._close(status)

    def _push(self, delta: dict[str, Any], logprobs: list[dict[str, Any]]) -> Iterator[Event]:
        if text := delta.get("reasoning_content"):
            yield from self._open("reasoning")
            self._text += text
            yield "response.reasoning_text.delta", {**self._part_place(), "delta": text}
        if text := delta.get("content"):
            # Whitespace around calls is no message.
            if self._kind == "function_call" and text.isspace():
                return
            yield from self._open("message")
            self._text += text
            self._tokens += logprobs
            yield "response.output_text.delta", {**self._part_place(), "delta": text, "logprobs": logprobs}
        for call in delta.get("tool_calls", ()):
            if "id" in call:
                yield from self._close("completed")
                self._call = {"call_id": call["id"], "name": call["function"]["name"]}
                yield from self._open("function_call")
            elif text := call["function"]["arguments"]:
                self._text += text
                yield "response.function_call_arguments.delta", {**self._place(), "delta": text}

    def _open(self, kind: str) -> Iterator[Event]:
        """Makes an item of this kind the open one."""
        if self._kind == kind:
            return
        yield from self._close("completed")
        self._kind = kind
        item = self._item("in_progress")
        if kind != "function_call":
            item |= {"content": []}
        yield "response.output_item.added", {"output_index": len(self.items), "item": item}
        if kind != "function_call":
            yield "response.content_part.added", {**self._part_place(), "part": self._part()}

    def _close(self, status: str) -> Iterator[Event]:
        if not self._kind:
            return
        match self._kind:
            case "function_call":
                done = {**self._place(), "name": self._call["name"], "arguments": self._text}
                yield "response.function_call_arguments.done", done
            case kind:
                name = "output_text" if kind == "message" else "reasoning_text"
                extra = {"logprobs": self._tokens} if kind == "message" else {}
                yield f"response.{name}.done", {**self._part_place(), "text": self._text, **extra}
                yield "response.content_part.done", {**self._part_place(), "part": self._part()}
        item = self._item(status)
        yield "response.output_item.done", {"output_index": len(self.items), "item": item}
        self.items.append(item)
        self._kind, self._text, self._tokens = "", "", []

    def _item(self, status: str) -> dict[str, Any]:
        """The open item."""
        item: dict[str, Any] = {"id": self._item_id(), "type": self._kind}
        match self._kind:
            case "reasoning":
                return item | {"summary": [], "content": [self._part()]}
            case "message":
                return item | {"status": status, "role": "assistant", "content": [self._part()]}
            case _:
                return item | {"status": status, **self._call, "arguments": self._text}

    def _part(self) -> dict[str, Any]:
        """The only part of the open item."""
        if self._kind == "reasoning":
            return {"type": "reasoning_text", "text": self._text}
        return {"type": "output_text", "text": self._text, "annotations": [], "logprobs": self._tokens}

    def _item_id(self) -> str:
        prefix = {"reasoning": "rs", "message": "msg", "function_call": "fc"}[self._kind]
        number = len(self.items)
        return f"{prefix}_{self._id}" + (f"_{number}" if number else "")

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._item_id(), "output_index": len(self.items)}

    def _part_place(self) -> dict[str, Any]:
        return {**self._place(), "content_index": 0}
