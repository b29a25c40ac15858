"""A request to the engine, and the answer that its events add up to."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from binhdan.runtime.errors import BinhdanError
from binhdan.runtime.ffi import Event, Library
from binhdan.runtime.options import GenerationOptions
from binhdan.runtime.prompting.tokenizer import Prompt, Tokenizer
from binhdan.runtime.results import Answer, FinishReason, Kind, Piece, Timings, TokenLogprob, ToolCall

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from binhdan.runtime.structured.tool_parser import Part, ToolCallParser

# Maps the tokens of the answer so far to the tokens that are allowed next: bit t of the bytes, low bit first,
# allows token t. The size is 4 bytes for every 32 tokens of the vocabulary, rounded up. No bit set, or no
# bytes, ends the answer. The thread that reads the stream calls it.
TokenMask = Callable[[Sequence[int]], "Buffer"]


class Request:
    """A submitted generation with its own event queue. `close()`, or deleting the object, cancels it."""

    _queue = 0

    def __init__(
        self,
        library: Library,
        engine: int,
        tokens: Sequence[int],
        options: GenerationOptions,
        mask: TokenMask | None = None,
        adapter: int = 0,
    ) -> None:
        """`adapter` is the handle of an adapter, or 0."""
        self.prompt = tokens
        self._library = library
        self._engine = engine
        self._mask = mask
        self._answer_tokens: list[int] = []
        self._queue = library.create_queue(engine)
        try:
            seed = int.from_bytes(os.urandom(8)) if options.seed is None else options.seed
            self._id = library.submit(
                engine, self._queue, tokens, options, seed, mask is not None, adapter=adapter
            )
            if mask is not None:
                library.set_mask(engine, self._id, mask(()))
        except BaseException:
            self.close()
            raise

    def next_event(self, timeout_ms: int) -> Event | None:
        """The next event, or None after `timeout_ms`. Raises the error that ended the request."""
        event = self._library.next_event(self._queue, timeout_ms)
        if event is None:
            return None
        if event.error is not None:
            raise event.error
        if self._mask is not None and event.kind == "token":
            self._answer_tokens.append(event.token)
            # The engine ignores the mask after the last token.
            self._library.set_mask(self._engine, self._id, self._mask(self._answer_tokens))
        return event

    def fd(self) -> int:
        """A file descriptor that is readable while the queue holds events."""
        return self._library.queue_fd(self._queue)

    def close(self) -> None:
        """Cancels the request if it still runs. A second call does nothing."""
        queue, self._queue = self._queue, 0
        if queue:
            with suppress(BinhdanError):
                self._library.close_queue(queue)

    def __del__(self, finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if not finalizing():  # during interpreter exit, globals are gone and the system frees the memory
            self.close()


class AnswerBuilder:
    """Turns the events of a request into pieces, and in the end into an Answer.

    `parser` finds tool calls; None: all text that is not reasoning is the answer's.
    """

    def __init__(
        self,
        prompt: Prompt,
        tokenizer: Tokenizer,
        options: GenerationOptions,
        parser: ToolCallParser | None = None,
    ) -> None:
        self._calls = None if parser is None else _ToolCalls(parser)
        self._splitter = prompt.splitter()
        self._options = options
        self._token_text = tokenizer.token_text
        self._prompt_tokens = len(prompt.tokens)
        self._texts: dict[Kind, list[str]] = {"text": [], "reasoning": []}
        self._tokens: list[int] = []
        self._told = 0  # tokens that pieces have reported
        self._reasoning_tokens = 0
        self._logprobs: list[TokenLogprob] | None = None if options.logprobs is None else []
        self._start = self._first = self._last = time.perf_counter()
        self._finished: Answer | None = None

    def feed(self, event: Event) -> list[Piece]:
        """The pieces that this event completes. Text that may still become a <think> tag is held back."""
        logprob = None
        if event.kind == "token":
            self._last = time.perf_counter()
            if not self._tokens:
                self._first = self._last
            self._tokens.append(event.token)
            logprob = self._logprob(event)
            self._reasoning_tokens += self._splitter.thinking
        text = event.text
        if event.kind == "finished" and self._options.include_stop:
            text += self._stop_text(event)
        parts = self._splitter.push(text)
        if event.kind == "finished":
            parts += self._splitter.finish()
        if not parts and logprob is not None:
            parts = [("text", "")]  # a piece without text reports the log probability
        pieces = []
        for kind, text in parts:
            if self._calls is not None and kind == "text":
                text = self._calls.push(text)
                if not text and logprob is None:
                    continue
            self._texts[kind].append(text)
            tokens, self._told = tuple(self._tokens[self._told :]), len(self._tokens)
            pieces.append(Piece(text, kind, logprob, tokens=tokens))
            logprob = None
        if self._calls is not None:
            if event.kind == "finished" and (text := self._calls.finish()):
                self._texts["text"].append(text)
                pieces.append(Piece(text))
            pieces += [Piece("", "tool_call", tool_call=call) for call in self._calls.take()]
        if event.kind == "finished":
            timings = Timings(event.queue_ns / 1e9, event.prefill_ns / 1e9, event.decode_ns / 1e9)
            self._finished = self._answer(
                event.finish or "stop",
                event.prompt_tokens,
                event.answer_tokens,
                timings,
                event.cached_tokens,
                event.drafted_tokens,
                event.accepted_tokens,
                self._stopped_by(event),
            )
        return pieces

    def answer(self) -> Answer:
        """The complete answer, or after a cancelled request the part that was received."""
        if self._finished is not None:
            return self._finished
        timings = Timings(0.0, self._first - self._start, self._last - self._first)
        return self._answer("cancelled", self._prompt_tokens, len(self._tokens), timings)

    def _answer(
        self,
        reason: FinishReason,
        prompt_tokens: int,
        answer_tokens: int,
        timings: Timings,
        cached_tokens: int = 0,
        drafted_tokens: int = 0,
        accepted_tokens: int = 0,
        stopped_by: str | int | None = None,
    ) -> Answer:
        return Answer(
            text="".join(self._texts["text"]),
            reasoning="".join(self._texts["reasoning"]).strip(),
            finish_reason=reason,
            prompt_tokens=prompt_tokens,
            answer_tokens=answer_tokens,
            timings=timings,
            tokens=tuple(self._tokens),
            logprobs=None if self._logprobs is None else tuple(self._logprobs),
            cached_tokens=cached_tokens,
            reasoning_tokens=self._reasoning_tokens,
            drafted_tokens=drafted_tokens,
            accepted_tokens=accepted_tokens,
            tool_calls=() if self._calls is None else tuple(self._calls.complete),
            stopped_by=stopped_by,
        )

    def _stop_text(self, event: Event) -> str:
        """The text of the stop text or stop token that ended the answer."""
        stopped_by = self._stopped_by(event)
        return self._token_text(stopped_by) if isinstance(stopped_by, int) else stopped_by or ""

    def _stopped_by(self, event: Event) -> str | int | None:
        if event.stop_text >= 0:
            return self._options.stop[event.stop_text]
        return event.token if event.token in self._options.stop_tokens else None

    def _logprob(self, event: Event) -> TokenLogprob | None:
        if self._logprobs is None:
            return None
        top = tuple(TokenLogprob(token, self._token_text(token), value) for token, value in event.top)
        logprob = TokenLogprob(event.token, self._token_text(event.token), event.logprob, top)
        self._logprobs.append(logprob)
        return logprob


class _ToolCalls:
    """The tool calls of one answer."""

    def __init__(self, parser: ToolCallParser) -> None:
        self.complete: list[ToolCall] = []
        self._parser = parser
        self._open: tuple[str, str] | None = None  # id and name of the call whose arguments arrive
        self._arguments = ""
        self._taken = 0

    def push(self, text: str) -> str:
        """The part of the answer that is text for the user. Text that may begin a call is held back."""
        return self._read(self._parser.push(text))

    def finish(self) -> str:
        """The text that was held back."""
        return self._read(self._parser.finish())

    def take(self) -> list[ToolCall]:
        """The calls that were completed since the last call."""
        taken, self._taken = self._taken, len(self.complete)
        return self.complete[taken:]

    def _read(self, parts: Sequence[Part]) -> str:
        from binhdan.runtime.structured.tool_parser import CallPart, TextPart

        text = ""
        for part in parts:
            if isinstance(part, TextPart):
                text += part.text
            elif isinstance(part, CallPart):
                self._open, self._arguments = (part.id, part.name), ""
            else:
                self._arguments += part.text
                self._end_call()
        return text

    def _end_call(self) -> None:
        """Adds the open call, once its arguments are complete."""
        if self._open is None or not self._arguments.rstrip().endswith("}"):
            return
        with suppress(ValueError, RecursionError):
            arguments = json.loads(self._arguments)
            if isinstance(arguments, dict):
                self.complete.append(ToolCall(*self._open, arguments))
                self._open, self._arguments = None, ""
