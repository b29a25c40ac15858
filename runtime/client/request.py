"""One request to the engine, and the answer that grows out of its events."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from binhdan.runtime import ffi as c
from binhdan.runtime.errors import BinhdanError, from_status
from binhdan.runtime.options import GenerationOptions
from binhdan.runtime.prompting.tokenizer import Prompt, Tokenizer
from binhdan.runtime.results import Answer, FinishReason, Kind, Piece, Timings, TokenLogprob

if TYPE_CHECKING:
    from typing_extensions import Buffer

# Given the tokens of the answer so far, says which may come next: bit t of the bytes, low bit first, allows
# token t; a multiple of 4 bytes. All zero ends the answer. Called in the thread that reads the stream.
TokenMask = Callable[[Sequence[int]], "Buffer"]

_FINISH_REASONS: dict[int, FinishReason] = {1: "stop", 2: "length", 3: "context", 4: "cancelled"}


class Request:
    """A submitted request with a queue of its own. Closing it, or dropping it, cancels it.

    `options` None asks for an embedding of the tokens.
    """

    _queue = 0

    def __init__(
        self,
        library: c.Library,
        engine: int,
        tokens: Sequence[int],
        options: GenerationOptions | None,
        mask: TokenMask | None = None,
    ) -> None:
        self._library = library
        self._engine = engine
        self._mask = mask
        self._answer_tokens: list[int] = []
        self._queue = library.create_queue(engine)
        try:
            if options is None:
                self._id = library.submit_embedding(engine, self._queue, tokens)
            else:
                seed = int.from_bytes(os.urandom(8)) if options.seed is None else options.seed
                self._id = library.submit(engine, self._queue, tokens, options, seed, mask is not None)
            if mask is not None:
                library.set_mask(engine, self._id, mask(()))
        except BaseException:
            self.close()
            raise

    def next_event(self, timeout_ms: int) -> c.Event | None:
        """The next event, or None after `timeout_ms`. Raises the error that ended the request."""
        event = self._library.next_event(self._queue, timeout_ms)
        if event is None:
            return None
        if event.kind == c.EVENT_FINISHED and event.finish == c.FINISH_ERROR:
            raise from_status(event.status, event.text)
        if self._mask is not None and event.kind == c.EVENT_TOKEN:
            self._answer_tokens.append(event.token)
            # After the last token it is ignored.
            self._library.set_mask(self._engine, self._id, self._mask(self._answer_tokens))
        return event

    def fd(self) -> int:
        """A descriptor that is readable while events wait."""
        return self._library.queue_fd(self._queue)

    def close(self) -> None:
        """Cancels what still runs. Twice is no error."""
        queue, self._queue = self._queue, 0
        if queue:
            with suppress(BinhdanError):
                self._library.close_queue(queue)

    def __del__(self, finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if not finalizing():  # at the interpreter's end names are gone, and the system takes the memory
            self.close()


class AnswerBuilder:
    """Turns the events of a request into pieces, and in the end into an Answer."""

    def __init__(self, prompt: Prompt, tokenizer: Tokenizer, options: GenerationOptions) -> None:
        self._splitter = prompt.splitter()
        self._token_text = tokenizer.token_text
        self._prompt_tokens = len(prompt.tokens)
        self._texts: dict[Kind, list[str]] = {"text": [], "reasoning": []}
        self._tokens: list[int] = []
        self._reasoning_tokens = 0
        self._logprobs: list[TokenLogprob] | None = None if options.logprobs is None else []
        self._start = self._first = self._last = time.perf_counter()
        self._finished: Answer | None = None

    @property
    def finished(self) -> bool:
        return self._finished is not None

    def feed(self, event: c.Event) -> Iterator[Piece]:
        """Pieces that the event makes certain."""
        logprob = None
        if event.kind == c.EVENT_TOKEN:
            self._last = time.perf_counter()
            if not self._tokens:
                self._first = self._last
            self._tokens.append(event.token)
            logprob = self._logprob(event)
            self._reasoning_tokens += self._splitter.thinking
        parts = self._splitter.push(event.text)
        if event.kind == c.EVENT_FINISHED:
            parts += self._splitter.finish()
        if not parts and logprob is not None:
            parts = [("text", "")]
        pieces = []
        for kind, text in parts:
            self._texts[kind].append(text)
            pieces.append(Piece(text, kind, logprob))
            logprob = None
        if event.kind == c.EVENT_FINISHED:
            timings = Timings(event.queue_ns / 1e9, event.prefill_ns / 1e9, event.decode_ns / 1e9)
            reason = _FINISH_REASONS.get(event.finish, "stop")
            self._finished = self._answer(
                reason, event.prompt_tokens, event.answer_tokens, timings, event.cached_tokens
            )
        yield from pieces

    def answer(self) -> Answer:
        """The whole answer, or what there is of it when it was cancelled."""
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
        )

    def _logprob(self, event: c.Event) -> TokenLogprob | None:
        if self._logprobs is None:
            return None
        top = tuple(TokenLogprob(token, self._token_text(token), value) for token, value in event.top)
        logprob = TokenLogprob(event.token, self._token_text(event.token), event.logprob, top)
        self._logprobs.append(logprob)
        return logprob
