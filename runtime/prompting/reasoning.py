"""Separates the reasoning of a model, `<think>…</think>` before the answer, from a streamed answer."""

from __future__ import annotations

from enum import Enum, auto

from binhdan.runtime.results import Kind

_OPEN = "<think>"
_CLOSE = "</think>"


class _State(Enum):
    START = auto()  # only whitespace so far; <think> may follow
    OPENED = auto()  # between <think> and the first character of the reasoning
    REASONING = auto()
    AFTER = auto()  # between </think> and the answer
    TEXT = auto()


class ReasoningSplitter:
    """`inside`: the prompt ends with an open <think>. `enabled=False` returns all input as text."""

    def __init__(self, *, enabled: bool = True, inside: bool = False) -> None:
        self._state = _State.TEXT if not enabled else _State.OPENED if inside else _State.START
        self._held = ""

    @property
    def thinking(self) -> bool:
        """True if the next text is reasoning."""
        return self._state in (_State.OPENED, _State.REASONING)

    def push(self, text: str) -> list[tuple[Kind, str]]:
        """The parts that are certain after `text`, in order. A possible start of a tag is held back."""
        self._held += text
        parts: list[tuple[Kind, str]] = []
        if self._state is _State.START:
            self._start()
        if self._state is _State.OPENED:
            self._skip_space(_State.REASONING)
        if self._state is _State.REASONING:
            parts.append(("reasoning", self._reason()))
        if self._state is _State.AFTER:
            self._skip_space(_State.TEXT)
        if self._state is _State.TEXT:
            parts.append(("text", self._held))
            self._held = ""
        return [part for part in parts if part[1]]

    def finish(self) -> list[tuple[Kind, str]]:
        """The part that was held back, at the end of the answer."""
        kind: Kind = "reasoning" if self._state is _State.REASONING else "text"
        held, self._held = self._held, ""
        return [(kind, held)] if held else []

    def _start(self) -> None:
        begun = self._held.lstrip()
        if begun.startswith(_OPEN):
            self._held = begun[len(_OPEN) :]
            self._state = _State.OPENED
        elif not _OPEN.startswith(begun):
            self._state = _State.TEXT

    def _skip_space(self, then: _State) -> None:
        self._held = self._held.lstrip()
        if self._held:
            self._state = then

    def _reason(self) -> str:
        reasoning, close, rest = self._held.partition(_CLOSE)
        if close:
            self._held = rest
            self._state = _State.AFTER
            return reasoning
        keep = next(n for n in range(len(_CLOSE) - 1, -1, -1) if self._held.endswith(_CLOSE[:n]))
        certain = self._held[: len(self._held) - keep]
        self._held = self._held[len(certain) :]
        return certain
