"""Answers as they come: for plain loops and for asyncio. Both are thin; the work is in request.py."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from binhdan.runtime.client.request import AnswerBuilder, Request
from binhdan.runtime.errors import ClosedError, UnsupportedError
from binhdan.runtime.ffi import EVENT_FINISHED, Event
from binhdan.runtime.results import Answer, Piece

if TYPE_CHECKING:
    import asyncio  # slow to import: those who call the asynchronous functions have it already

# Waits are cut into slices so that Python sees Ctrl-C: a thread that waits inside C does not.
_SLICE_MS = 50
# Events that a task takes before the loop's other tasks have a turn: an engine ahead of its reader has more.
_MOST_AT_ONCE = 16


def events(request: Request) -> Iterator[Event]:
    """The events of a request to its last."""
    while True:
        event = request.next_event(_SLICE_MS)
        if event is not None:
            yield event
            if event.kind == EVENT_FINISHED:
                return


async def async_events(request: Request) -> AsyncIterator[Event]:
    """The events of a request to its last, for asyncio."""
    import asyncio

    taken = 0
    while True:
        event = request.next_event(0)
        if event is None:
            await _arrival(request)
            continue
        yield event
        if event.kind == EVENT_FINISHED:
            return
        taken += 1
        if taken % _MOST_AT_ONCE == 0:
            await asyncio.sleep(0)


class Stream:
    """Iterate once to get the pieces. Leaving the loop early, `close()` or dropping the stream cancels the
    request.

        for piece in model.ask("Xin chào", stream=True):
            print(piece, end="", flush=True)
    """

    def __init__(self, request: Request, builder: AnswerBuilder) -> None:
        self._request = request
        self._builder = builder
        self._closed = False

    def __iter__(self) -> Iterator[Piece]:
        try:
            if not self._closed:
                for event in events(self._request):
                    yield from self._builder.feed(event)
        finally:
            self.close()

    def answer(self) -> Answer:
        """Waits for the rest. After an early end: what had come, with finish_reason "cancelled"."""
        for _ in self:
            pass
        return self._builder.answer()

    def close(self) -> None:
        """Cancels what still runs."""
        self._closed = True
        self._request.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncStream:
    """As Stream, for asyncio: `async for piece in stream`, or `answer = await stream`.

    The request starts when the first piece is waited for. It is cancelled when the consumer leaves the loop
    or its task is cancelled.
    """

    def __init__(self, start: Callable[[], tuple[Request, AnswerBuilder]]) -> None:
        self._start = start
        self._request: Request | None = None
        self._builder: AnswerBuilder | None = None
        self._closed = False

    async def __aiter__(self) -> AsyncIterator[Piece]:
        try:
            if not self._closed:
                import asyncio

                # A long prompt takes a while to tokenize; the loop goes on meanwhile.
                request, builder = await asyncio.to_thread(self._start)
                self._request, self._builder = request, builder
                async for event in async_events(request):
                    for piece in builder.feed(event):
                        yield piece
        finally:
            self.close()

    async def answer(self) -> Answer:
        """Waits for the rest. After an early end: what had come, with finish_reason "cancelled"."""
        async for _ in self:
            pass
        if self._builder is None:
            raise ClosedError("the stream was closed before it began")
        return self._builder.answer()

    def __await__(self) -> Generator[object, None, Answer]:
        return self.answer().__await__()

    def close(self) -> None:
        """Cancels what still runs."""
        self._closed = True
        if self._request is not None:
            self._request.close()

    async def __aenter__(self) -> AsyncStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


async def _arrival(request: Request) -> None:
    """Returns when an event may have come."""
    import asyncio

    loop = asyncio.get_running_loop()
    arrived: asyncio.Future[None] = loop.create_future()
    try:
        fd = request.fd()
        loop.add_reader(fd, _wake, arrived)
    except (UnsupportedError, NotImplementedError):  # systems and event loops without pollable descriptors
        await asyncio.sleep(0.005)
        return
    try:
        await arrived
    finally:
        loop.remove_reader(fd)


def _wake(arrived: asyncio.Future[None]) -> None:
    if not arrived.done():
        arrived.set_result(None)
