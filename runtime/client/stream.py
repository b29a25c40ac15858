"""Streamed answers: Stream for loops in a thread, AsyncStream for asyncio."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from binhdan.runtime.client.request import AnswerBuilder, Request
from binhdan.runtime.errors import BusyError, ClosedError, UnsupportedError
from binhdan.runtime.ffi import Event
from binhdan.runtime.results import Answer, Piece

if TYPE_CHECKING:
    import asyncio  # slow to import, and callers of the async functions have imported it already

# Python handles Ctrl-C only between calls to C, so a wait is cut into slices.
SLICE_MS = 50
# Events that a task reads before it yields to the event loop: a fast engine may always have another one.
_MAX_EVENTS_PER_TURN = 16

# Seconds between two attempts to submit a request to a full engine.
_RETRY_SECONDS = 0.01
# Seconds between two updates of a notebook's output.
_DISPLAY_SECONDS = 0.05

# Submits the request when it is called.
SubmitRequest = Callable[[], tuple[Request, AnswerBuilder]]
# Makes the prompt and compiles the constraint. Its result may be called again after BusyError.
PrepareRequest = Callable[[], SubmitRequest]


class HasQueue(Protocol):
    def fd(self) -> int:
        """A file descriptor that is readable while there are events."""


def events(request: Request) -> Iterator[Event]:
    """All events of a request."""
    while True:
        event = request.next_event(SLICE_MS)
        if event is not None:
            yield event
            if event.kind == "finished":
                return


async def async_events(request: Request) -> AsyncIterator[Event]:
    """All events of a request, for asyncio."""
    import asyncio

    count = 0
    while True:
        event = request.next_event(0)
        if event is None:
            await event_ready(request)
            continue
        yield event
        if event.kind == "finished":
            return
        count += 1
        if count % _MAX_EVENTS_PER_TURN == 0:
            await asyncio.sleep(0)


class Stream:
    """Iterate once to read the pieces. Leaving the loop early, `close()` and deleting the stream cancel the
    request.

        for piece in model.ask("Xin chào", stream=True):
            print(piece, end="", flush=True)
    """

    def __init__(self, prepare: PrepareRequest, wait: bool = False) -> None:
        """`wait`: wait while the engine is full, instead of raising BusyError."""
        submit = prepare()
        while True:
            try:
                self._request, self._builder = submit()
                break
            except BusyError:
                if not wait:
                    raise
            time.sleep(_RETRY_SECONDS)
        self._closed = False

    def __iter__(self) -> Iterator[Piece]:
        try:
            if not self._closed:
                for event in events(self._request):
                    yield from self._builder.feed(event)
        finally:
            self.close()

    def answer(self) -> Answer:
        """Reads the rest of the stream. After `close()`, the answer so far with finish_reason "cancelled"."""
        for _ in self:
            pass
        return self._builder.answer()

    @property
    def prompt_tokens(self) -> Sequence[int]:
        """The tokens of the prompt."""
        return self._request.prompt

    def close(self) -> None:
        """Cancels the request if it still runs."""
        self._closed = True
        self._request.close()

    def _ipython_display_(self) -> None:
        """Jupyter calls this for the last value of a cell: shows the answer while it arrives."""
        from IPython.display import Markdown, display

        text, shown = "", 0.0
        handle = display(Markdown(text), display_id=True)
        for piece in self:
            text += piece.text if piece.kind == "text" else ""
            if time.monotonic() - shown >= _DISPLAY_SECONDS:
                handle.update(Markdown(text))
                shown = time.monotonic()
        handle.update(Markdown(text))

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncStream(Coroutine[Any, Any, Answer]):
    """Stream for asyncio: `async for piece in stream`, or `answer = await stream`. It is a coroutine, so that
    `asyncio.create_task(stream)` runs it.

    Reading the first piece submits the request. Leaving the loop, `close()` and cancelling the task cancel
    it.
    """

    def __init__(self, prepare: PrepareRequest, wait: bool = False) -> None:
        """`wait`: wait while the engine is full, instead of raising BusyError."""
        self._prepare = prepare
        self._wait = wait
        self._started: tuple[Request, AnswerBuilder] | None = None
        self._closed = False
        self._coroutine: Coroutine[Any, Any, Answer] | None = None  # that send() and throw() run

    async def __aiter__(self) -> AsyncIterator[Piece]:
        import asyncio

        try:
            if not self._closed:
                # A thread tokenizes the prompt, so that a long one does not block the event loop.
                submit = await asyncio.to_thread(self._prepare)
                self._started = request, builder = await self._submit(submit)
                async for event in async_events(request):
                    for piece in builder.feed(event):
                        yield piece
        finally:
            self.close()

    async def _submit(self, submit: SubmitRequest) -> tuple[Request, AnswerBuilder]:
        import asyncio

        while True:
            try:
                return await asyncio.to_thread(submit)
            except BusyError:
                if not self._wait:
                    raise
            await asyncio.sleep(_RETRY_SECONDS)

    async def answer(self) -> Answer:
        """Reads the rest of the stream. After `close()`, the answer so far with finish_reason "cancelled".

        Raises ClosedError when the stream was closed before the request was submitted.
        """
        async for _ in self:
            pass
        if self._started is None:
            raise ClosedError(
                "the stream was closed before its request was submitted; await the answer before close()"
            )
        return self._started[1].answer()

    def __await__(self) -> Generator[object, None, Answer]:
        return self.answer().__await__()

    def send(self, value: Any) -> Any:
        """A step of the coroutine, for asyncio."""
        if self._coroutine is None:
            self._coroutine = self.answer()
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        """Raises an exception in the coroutine, for asyncio."""
        if self._coroutine is None:
            self._coroutine = self.answer()
        return self._coroutine.throw(*error)

    def close(self) -> None:
        """Cancels the request if it still runs."""
        self._closed = True
        if self._started is not None:
            self._started[0].close()

    async def __aenter__(self) -> AsyncStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


async def event_ready(source: HasQueue) -> None:
    """Returns when the queue may hold an event."""
    import asyncio

    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    try:
        fd = source.fd()
        loop.add_reader(fd, _set_ready, ready)
    except (UnsupportedError, NotImplementedError):  # this system or event loop cannot watch a descriptor
        await asyncio.sleep(0.005)
        return
    try:
        await ready
    finally:
        loop.remove_reader(fd)


def _set_ready(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
