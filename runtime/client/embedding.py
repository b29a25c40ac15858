"""Embeddings of many texts: the engine computes several texts in one batch, and the results keep their order.

Memory is bounded: the texts are read as they are needed.
"""

from __future__ import annotations

import array
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

from binhdan.runtime.client.stream import SLICE_MS, event_ready
from binhdan.runtime.errors import BinhdanError, BusyError
from binhdan.runtime.ffi import Library
from binhdan.runtime.options import EmbeddingOptions
from binhdan.runtime.prompting.tokenizer import Prompt

Vector = array.array  # of "f"; one value for a reranker
# The prompt of a text. Called when the engine has space for it.
MakePrompt = Callable[[], Prompt]
# The name of the text at a position, for errors; None: errors do not name the text.
NameText = Callable[[int], str] | None

# Texts in the engine, or computed and waiting for an earlier one. Enough for several batches of short texts,
# and half of the requests that an engine lets wait by default.
_MAX_TEXTS = 128


def embeddings(
    library: Library,
    engine: int,
    texts: Iterable[MakePrompt],
    options: EmbeddingOptions,
    name: NameText = None,
) -> Iterator[Vector[float]]:
    """The embedding of each text, in order. Raises the error of a text that fails."""
    batch = _Batch(library, engine, texts, options, name)
    try:
        while batch.submit():
            batch.receive(SLICE_MS)
            yield from batch.take()
    finally:
        batch.close()


async def async_embeddings(
    library: Library,
    engine: int,
    texts: Iterable[MakePrompt],
    options: EmbeddingOptions,
    name: NameText = None,
) -> AsyncIterator[Vector[float]]:
    """`embeddings` for asyncio. A thread tokenizes the texts."""
    import asyncio

    batch = _Batch(library, engine, texts, options, name)
    try:
        while await asyncio.to_thread(batch.submit):
            if not batch.receive(0):
                await event_ready(batch)
            for vector in batch.take():
                yield vector
    finally:
        batch.close()


class _Batch:
    """The requests of one call, with one event queue."""

    def __init__(
        self,
        library: Library,
        engine: int,
        texts: Iterable[MakePrompt],
        options: EmbeddingOptions,
        name: NameText,
    ) -> None:
        self._library = library
        self._engine = engine
        self._texts = iter(texts)
        self._options = options
        self._name = name
        self._running: dict[int, int] = {}  # request -> position of its text
        self._results: dict[int, Vector[float]] = {}  # by position; not yet taken
        self._submitted = self._taken = 0
        self._waiting: Prompt | None = None  # refused because the engine was full
        self._queue = library.create_queue(engine)

    def submit(self) -> bool:
        """Submits texts while there is space. False when all results have been taken."""
        while self._submitted - self._taken < _MAX_TEXTS:
            if self._waiting is None:
                make_prompt = next(self._texts, None)
                if make_prompt is None:
                    break
                with self._naming(self._submitted):
                    self._waiting = make_prompt()
            try:
                with self._naming(self._submitted):
                    request = self._library.submit_embedding(
                        self._engine, self._queue, self._waiting.tokens, self._options
                    )
            except BusyError:
                if not self._running:
                    raise
                break  # another caller has filled the engine: continue when one of these texts is done
            self._running[request] = self._submitted
            self._submitted += 1
            self._waiting = None
        return self._taken < self._submitted

    def receive(self, timeout_ms: int) -> bool:
        """Reads all events, and waits for the first one. False if there was none."""
        event = self._library.next_event(self._queue, timeout_ms)
        found = event is not None
        while event is not None:
            if event.kind == "embedding":
                self._results[self._running[event.request]] = event.values
            elif event.kind == "finished":
                with self._naming(self._running.pop(event.request)):
                    if event.error is not None:
                        raise event.error
            event = self._library.next_event(self._queue, 0)
        return found

    def take(self) -> list[Vector[float]]:
        """The results that are next in order."""
        vectors = []
        while (vector := self._results.pop(self._taken, None)) is not None:
            self._taken += 1
            vectors.append(vector)
        return vectors

    def fd(self) -> int:
        return self._library.queue_fd(self._queue)

    @contextmanager
    def _naming(self, position: int) -> Iterator[None]:
        """Adds the name of a text to an error."""
        try:
            yield
        except BinhdanError as error:
            if self._name is None:
                raise
            raise type(error)(f"{self._name(position)}: {error}") from error

    def close(self) -> None:
        """Cancels the requests that still run."""
        with suppress(BinhdanError):
            self._library.close_queue(self._queue)
