"""The answers to one HTTP request: one or more prompts, n answers to each, as one stream of pieces."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace

from binhdan.runtime.client.request import AnswerBuilder, TokenMask
from binhdan.runtime.errors import BinhdanError
from binhdan.runtime.ffi import Event
from binhdan.runtime.options import GenerationOptions
from binhdan.runtime.prompting.tokenizer import Prompt, Tokenizer
from binhdan.runtime.results import Answer, Piece
from binhdan.runtime.server.accounting.bill import Work
from binhdan.runtime.server.models.dispatcher import Dispatcher


@dataclass(frozen=True, slots=True)
class Job:
    """What all answers of a request share. `new_mask` makes the constraint of one answer."""

    prompts: Sequence[Prompt]
    options: GenerationOptions
    n: int = 1
    new_mask: Callable[[], TokenMask] | None = None
    cache_salt: int = 0
    use_cache: bool = True


class Generation:
    """Use it in a `with`: leaving cancels what still runs. Answer i * n + j is the j-th to prompt i.

    `work` is told what the engine has done, for the bill.
    """

    def __init__(self, dispatcher: Dispatcher, tokenizer: Tokenizer, job: Job, work: Work) -> None:
        self._dispatcher = dispatcher
        self._work = work
        self._pieces: list[tuple[int, Piece]] = []
        self._arrived = asyncio.Event()
        self._error: BinhdanError | None = None
        self._builders: list[AnswerBuilder] = []
        self._running: dict[int, int] = {}  # answer -> number of its request
        self._begun: set[int] = set()  # answers with a first token
        try:
            for prompt in job.prompts:
                for j in range(job.n):
                    self._start(tokenizer, job, prompt, j)
        except BaseException:
            self.close()
            raise

    async def batches(self) -> AsyncIterator[list[tuple[int, Piece]]]:
        """What has come since the last time: (answer, piece) pairs. Raises the error that ended an answer."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            if self._error is not None:
                raise self._error
            pieces, self._pieces = self._pieces, []
            if pieces:
                yield pieces
            if not self._running and not self._pieces:
                return

    async def answers(self) -> list[Answer]:
        """All answers when the last has ended."""
        async for _ in self.batches():
            pass
        return [builder.answer() for builder in self._builders]

    def answer(self, index: int) -> Answer:
        """One answer, whole or as far as it has come."""
        return self._builders[index].answer()

    def finished(self, index: int) -> bool:
        return index not in self._running

    def __len__(self) -> int:
        return len(self._builders)

    def close(self) -> None:
        """Cancels what still runs. Twice is no error."""
        running, self._running = self._running, {}
        for number in running.values():
            self._dispatcher.cancel(number)

    def __enter__(self) -> Generation:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self, tokenizer: Tokenizer, job: Job, prompt: Prompt, j: int) -> None:
        options = job.options
        if options.seed is not None and j:  # n answers of one seed would be the same n times
            options = replace(options, seed=(options.seed + j) % 2**64)
        index, builder = len(self._builders), AnswerBuilder(prompt, tokenizer, options)

        def handle(event: Event | BinhdanError) -> None:
            if isinstance(event, BinhdanError):
                self._error = event
                self._running.pop(index, None)
            else:
                self._report(event, index, prompt)
                self._pieces += [(index, piece) for piece in builder.feed(event)]
                if event.kind == "finished":
                    self._running.pop(index, None)
            self._arrived.set()

        self._builders.append(builder)
        self._running[index] = self._dispatcher.submit(
            prompt.tokens,
            prompt.settings(options),
            handle,
            mask=job.new_mask() if job.new_mask is not None else None,
            cache_salt=job.cache_salt,
            use_cache=job.use_cache,
        )

    def _report(self, event: Event, index: int, prompt: Prompt) -> None:
        if event.kind != "token":
            return
        if index in self._begun:
            self._work.tokens()
        else:
            self._begun.add(index)
            self._work.first_token(len(prompt.tokens))


async def embed(dispatcher: Dispatcher, prompts: Sequence[Prompt]) -> list[tuple[float, ...]]:
    """The embedding of each text. Cancelling the task cancels the work."""
    loop = asyncio.get_running_loop()
    results: list[asyncio.Future[tuple[float, ...]]] = [loop.create_future() for _ in prompts]
    numbers: list[int] = []
    try:
        for prompt, result in zip(prompts, results, strict=True):
            numbers.append(dispatcher.submit(prompt.tokens, None, _resolve(result)))
        return list(await asyncio.gather(*results))
    finally:
        for number, result in zip(numbers, results, strict=False):
            if not result.done() or result.cancelled():
                dispatcher.cancel(number)


def _resolve(result: asyncio.Future[tuple[float, ...]]) -> Callable[[Event | BinhdanError], None]:
    def handle(event: Event | BinhdanError) -> None:
        if result.done():
            return
        if isinstance(event, BinhdanError):
            result.set_exception(event)
        elif event.kind == "embedding":
            result.set_result(event.values)

    return handle
