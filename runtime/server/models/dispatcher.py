"""Passes the events of one model to its requests, in one event loop.

All requests share one event queue, which is read when its descriptor becomes readable. One queue per request
would need a descriptor and a callback each; at 1,000 tokens per second that is most of the cost of HTTP.
"""

from __future__ import annotations

import asyncio
import copy
import os
from collections.abc import Callable, Sequence
from contextlib import suppress

from binhdan.runtime.client.adapter import Adapter, handle_of
from binhdan.runtime.client.model import Model
from binhdan.runtime.client.request import TokenMask
from binhdan.runtime.errors import BinhdanError, ClosedError, UnsupportedError
from binhdan.runtime.ffi import Event
from binhdan.runtime.options import EmbeddingOptions, GenerationOptions

# Called in the event loop with each event of a request. The last call has an event of kind "finished", or the
# error that ended the request.
Handler = Callable[[Event | BinhdanError], None]

_POLL_SECONDS = 0.002  # on event loops that cannot watch a descriptor


class Dispatcher:
    """Submits requests and calls their handlers. Use it only from the event loop that runs when it is made,
    and close it before the model."""

    def __init__(self, model: Model) -> None:
        self._library, self._engine = model.native_handles()
        self._model = model
        self._adapter = 0  # handle
        self._loop = asyncio.get_running_loop()
        self._handlers: dict[int, Handler] = {}
        self._masks: dict[int, _MaskedRequest] = {}
        self._queue = self._library.create_queue(self._engine)
        self._poll: asyncio.TimerHandle | None = None
        self._fd: int | None = None
        try:
            self._fd = self._library.queue_fd(self._queue)
            self._loop.add_reader(self._fd, self._drain)
        except (UnsupportedError, NotImplementedError):
            self._poll_again()

    def with_adapter(self, adapter: Adapter) -> Dispatcher:
        """This dispatcher, with an adapter for the requests that are submitted through the result."""
        other = copy.copy(self)
        other._adapter = handle_of(adapter, self._model)
        return other

    def __len__(self) -> int:
        """The number of requests that have not ended."""
        return len(self._handlers)

    def submit(
        self,
        tokens: Sequence[int],
        options: GenerationOptions | EmbeddingOptions,
        handler: Handler,
        *,
        mask: TokenMask | None = None,
        cache_salt: int = 0,
        use_cache: bool = True,
    ) -> int:
        """Submits a generation or an embedding, and returns its number for `cancel`.

        `mask` is called in worker threads, one call at a time. Raises the errors of binhdan_submit.
        """
        if isinstance(options, EmbeddingOptions):
            number = self._library.submit_embedding(self._engine, self._queue, tokens, options, self._adapter)
        else:
            seed = int.from_bytes(os.urandom(8)) if options.seed is None else options.seed
            number = self._library.submit(
                self._engine,
                self._queue,
                tokens,
                options,
                seed,
                mask is not None,
                cache_salt=cache_salt,
                use_cache=use_cache,
                adapter=self._adapter,
            )
        self._handlers[number] = handler
        if mask is not None:
            self._masks[number] = _MaskedRequest(self, number, mask)
            self._masks[number].compute_next()
        return number

    def submit_scoring(self, tokens: Sequence[int], score_from: int, handler: Handler, top: int = 0) -> int:
        """Submits the scoring of the tokens from `score_from` on, with the `top` most likely tokens for each.
        Its events: "scores", then "finished"."""
        number = self._library.submit_scoring(
            self._engine, self._queue, tokens, score_from, self._adapter, top
        )
        self._handlers[number] = handler
        return number

    def cancel(self, number: int) -> None:
        """Ends a request after the current step. Its handler is not called again."""
        self._forget(number)
        with suppress(BinhdanError):
            self._library.cancel(self._engine, number)

    def close(self) -> None:
        """Ends all requests: their handlers are called with an error."""
        if self._fd is not None:
            self._loop.remove_reader(self._fd)
        if self._poll is not None:
            self._poll.cancel()
        self._drain()
        with suppress(BinhdanError):
            self._library.close_queue(self._queue)
        self.end_all(ClosedError("the server is closing this model"))

    def end_all(self, error: BinhdanError) -> None:
        """Ends all requests with an error."""
        for number in list(self._handlers):
            self.fail(number, error)

    def set_mask(self, number: int, mask: bytes) -> None:
        """Sets the mask for the next token of a request. Does nothing if the request has ended."""
        if number in self._handlers:
            self._library.set_mask(self._engine, number, mask)

    def fail(self, number: int, error: BinhdanError) -> None:
        """Ends a request with an error from outside the engine."""
        handler = self._handlers.get(number)
        self.cancel(number)
        if handler is not None:
            handler(error)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def _drain(self) -> None:
        """Passes all queued events to their handlers."""
        while (event := self._library.next_event(self._queue, 0)) is not None:
            handler = self._handlers.get(event.request)
            if handler is None:  # cancelled
                continue
            if event.kind == "token" and (masked := self._masks.get(event.request)) is not None:
                masked.add(event.token)
            if event.kind == "finished":
                self._forget(event.request)
                if event.error is not None:
                    handler(event.error)
                    continue
            handler(event)

    def _poll_again(self) -> None:
        self._drain()
        self._poll = self._loop.call_later(_POLL_SECONDS, self._poll_again)

    def _forget(self, number: int) -> None:
        self._handlers.pop(number, None)
        self._masks.pop(number, None)


class _MaskedRequest:
    """Computes the masks of one request in worker threads, while the engine computes the next logits."""

    def __init__(self, dispatcher: Dispatcher, number: int, mask: TokenMask) -> None:
        self._dispatcher = dispatcher
        self._number = number
        self._mask = mask
        self._tokens: list[int] = []

    def add(self, token: int) -> None:
        """Adds a token of the answer."""
        self._tokens.append(token)
        self.compute_next()

    def compute_next(self) -> None:
        """Starts to compute the next mask. The engine samples a token only after its mask, so one computation
        runs at a time."""
        future = self._dispatcher.loop.run_in_executor(None, self._compute)
        future.add_done_callback(self._computed)

    def _compute(self) -> bytes:
        return bytes(self._mask(self._tokens))

    def _computed(self, future: asyncio.Future[bytes]) -> None:
        if future.cancelled():
            return
        error = future.exception()
        try:
            if error is None:
                self._dispatcher.set_mask(self._number, future.result())
        except BinhdanError as refused:
            error = refused
        if error is not None:
            if not isinstance(error, BinhdanError):
                error = BinhdanError("the answer's constraint failed to compute a token mask")
            self._dispatcher.fail(self._number, error)
