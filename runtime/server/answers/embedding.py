"""The lifecycle of a request that embeds or scores texts: plan, run, reply, and the record at its end."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from fastapi import Request

from binhdan.runtime.errors import BinhdanError, BusyError, TooLargeError
from binhdan.runtime.ffi import Event
from binhdan.runtime.options import EmbeddingOptions
from binhdan.runtime.prompting.tokenizer import Prompt
from binhdan.runtime.server.accounting.record import AnswerRecord
from binhdan.runtime.server.answers.lifecycle import until_disconnect
from binhdan.runtime.server.context import server_of
from binhdan.runtime.server.errors import ApiError
from binhdan.runtime.server.models.dispatcher import Dispatcher
from binhdan.runtime.server.models.pool import LoadedModel

# Texts of one request in the engine at a time: enough for several batches of short texts, and so few that one
# request cannot fill the queue.
_MAX_RUNNING = 64


@dataclass(frozen=True, slots=True)
class EmbeddingPlan:
    """The prompts of a request, and the options that they share."""

    prompts: Sequence[Prompt]
    options: EmbeddingOptions


@dataclass(frozen=True, slots=True)
class Embeddings:
    """The result of a request."""

    model: str
    vectors: Sequence[array[float]]  # of each prompt, in order
    usage: dict[str, Any]  # OpenAI's, with the bill under "binhdan"


async def run_embeddings(
    request: Request, model: str | None, plan: Callable[[LoadedModel], EmbeddingPlan], param: str
) -> Embeddings:
    """Plans and runs a validated request. `plan` runs in a worker thread. `param`: the field with the texts.

    Raises ApiError, or BinhdanError from the engine, and ClientGone.
    """
    server, caller, arrived = server_of(request), request.state.caller, time.perf_counter()
    async with AsyncExitStack() as stack:
        loaded = await stack.enter_async_context(server.pool.use(model))
        try:
            planned = await asyncio.to_thread(plan, loaded)
        except TooLargeError as error:
            raise _too_long(str(error), param) from error
        context = loaded.model.context
        limit = min(context, server.config.max_prompt_tokens or context)
        for prompt in planned.prompts:
            if len(prompt.tokens) > limit:
                raise _too_long(
                    f"expected texts of at most {limit:,} tokens, got {len(prompt.tokens):,}: shorten it",
                    param,
                )
        tokens = sum(len(prompt.tokens) for prompt in planned.prompts)
        admission = await stack.enter_async_context(server.limiter.admit(caller, tokens, 0))
        work = server.biller.begin(loaded.model.info.bytes_per_token / 1e9)
        run = EmbeddingRun(loaded.dispatcher, planned)
        try:
            vectors = await until_disconnect(request, run.vectors())
        finally:
            seconds = time.perf_counter() - arrived
            record = AnswerRecord(
                request_id=request.state.request_id,
                route=request.url.path,
                model=loaded.name,
                key=caller.name,
                finish_reason="stop" if run.computed_tokens == tokens else "cancelled",
                prompt_tokens=run.computed_tokens,
                cached_tokens=0,
                answer_tokens=0,
                queue=0.0,
                prefill=seconds,
                decode=0.0,
                total=seconds,
            )
            admission.settle(run.computed_tokens)
            bill = server.biller.bill(record, work)
            server.account(record, bill)
        await server.committed()
    usage = {"prompt_tokens": tokens, "total_tokens": tokens, "binhdan": bill.usage()}
    return Embeddings(loaded.name, vectors, usage)


class EmbeddingRun:
    """Runs the prompts of a plan."""

    def __init__(self, dispatcher: Dispatcher, plan: EmbeddingPlan) -> None:
        self._dispatcher = dispatcher
        self._plan = plan
        self._running: dict[int, int] = {}  # position of a prompt -> number of its engine request
        self._results: dict[int, array[float]] = {}
        self._changed = asyncio.Event()  # a prompt has ended
        self._error: BinhdanError | None = None
        self.computed_tokens = 0

    async def vectors(self) -> list[array[float]]:
        """The embedding of each prompt. Raises the first error. Cancelling the task cancels the requests."""
        prompts = self._plan.prompts
        try:
            for position in range(len(prompts)):
                while not self._submit(position):
                    await self._next_end()
            while self._running:
                await self._next_end()
        finally:
            for number in self._running.values():
                self._dispatcher.cancel(number)
        return [self._results[position] for position in range(len(prompts))]

    def _submit(self, position: int) -> bool:
        """False if the prompt has to wait for another one of this request."""
        if len(self._running) >= _MAX_RUNNING:
            return False

        def handle(event: Event | BinhdanError) -> None:
            if isinstance(event, BinhdanError):
                self._error = event
            elif event.kind == "embedding":
                self._results[position] = event.values
                self.computed_tokens += len(tokens)
                return
            self._running.pop(position, None)
            self._changed.set()

        tokens = self._plan.prompts[position].tokens
        try:
            self._running[position] = self._dispatcher.submit(tokens, self._plan.options, handle)
        except BusyError:
            if not self._running:
                raise
            return False
        return True

    async def _next_end(self) -> None:
        await self._changed.wait()
        self._changed.clear()
        if self._error is not None:
            raise self._error


def _too_long(message: str, param: str) -> ApiError:
    return ApiError(400, message, code="context_length_exceeded", param=param)
