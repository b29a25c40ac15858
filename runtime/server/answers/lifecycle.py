"""One request for answers on its way: model, admission, generation, and the record at its end."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from binhdan.runtime.results import Answer
from binhdan.runtime.server.access.keys import Caller
from binhdan.runtime.server.accounting.bill import Bill
from binhdan.runtime.server.accounting.record import AnswerRecord
from binhdan.runtime.server.answers.generation import Generation, Job
from binhdan.runtime.server.context import server_of
from binhdan.runtime.server.http.errors import ApiError
from binhdan.runtime.server.http.sse import EventStream, Frames
from binhdan.runtime.server.models.pool import LoadedModel

# Makes the job of a request; runs in a worker thread, since long prompts take a while to tokenize.
Prepare = Callable[[LoadedModel, Caller], Job]


class Exchange:
    """Use it in an `async with`; `generation` runs inside."""

    loaded: LoadedModel
    job: Job
    generation: Generation

    def __init__(self, request: Request, model: str | None, prepare: Prepare) -> None:
        self._request = request
        self._server = server_of(request)
        self._model = model
        self._prepare = prepare
        self._arrived = time.perf_counter()
        self._stack = AsyncExitStack()
        self._record: AnswerRecord | None = None
        self._made_bill: Bill | None = None
        self.caller: Caller = request.state.caller
        self.id = secrets.token_hex(12)  # of the answer; the request's may be the client's
        self.created = int(time.time())

    async def __aenter__(self) -> Exchange:
        async with AsyncExitStack() as stack:
            self.loaded = await stack.enter_async_context(self._server.pool.use(self._model))
            self.job = self._within_limits(await asyncio.to_thread(self._prepare, self.loaded, self.caller))
            admission = await stack.enter_async_context(
                self._server.limiter.admit(self.caller, self._prompt_tokens, self._most_tokens)
            )
            self._work = self._server.biller.begin(self.loaded.model.info.bytes_per_token / 1e9)
            self.generation = stack.enter_context(
                Generation(self.loaded.dispatcher, self.loaded.model.tokenizer, self.job, self._work)
            )
            # Runs first when the request ends, whatever its end.
            stack.callback(lambda: self._close(admission.settle))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        await self._stack.__aexit__(kind, error, trace)

    def answers(self) -> list[Answer]:
        """All answers as far as they have come."""
        return [self.generation.answer(i) for i in range(len(self.generation))]

    def usage(self) -> dict[str, Any]:
        """OpenAI's usage of the finished request, with ours beside it."""
        record = self.record()
        return {
            "prompt_tokens": record.prompt_tokens,
            "completion_tokens": record.answer_tokens,
            "total_tokens": record.prompt_tokens + record.answer_tokens,
            "prompt_tokens_details": {"cached_tokens": record.cached_tokens},
            "completion_tokens_details": {
                "reasoning_tokens": sum(answer.reasoning_tokens for answer in self.answers())
            },
            "binhdan": self._bill(record).usage(),
        }

    def _bill(self, record: AnswerRecord) -> Bill:
        if self._made_bill is None:
            self._made_bill = self._server.biller.bill(record, self._work)
        return self._made_bill

    def record(self) -> AnswerRecord:
        """Made once, when all answers have ended or the request has."""
        if self._record is None:
            answers, n = self.answers(), self.job.n
            self._record = AnswerRecord(
                request_id=self._request.state.request_id,
                route=self._request.url.path,
                model=self.loaded.name,
                key=self.caller.name,
                finish_reason=answers[0].finish_reason,
                # n answers to one prompt share it.
                prompt_tokens=self._prompt_tokens,
                cached_tokens=sum(answer.cached_tokens for answer in answers[::n]),
                answer_tokens=sum(answer.answer_tokens for answer in answers),
                queue=max(answer.timings.queue for answer in answers),
                prompt=max(answer.timings.prefill for answer in answers),
                decode=max(answer.timings.decode for answer in answers),
                total=time.perf_counter() - self._arrived,
            )
        return self._record

    @property
    def _prompt_tokens(self) -> int:
        return sum(len(prompt.tokens) for prompt in self.job.prompts)

    @property
    def _most_tokens(self) -> int:
        """Of all answers together."""
        total = 0
        for prompt in self.job.prompts:
            room = max(0, self.loaded.model.context - len(prompt.tokens))
            most = self.job.options.max_tokens
            total += self.job.n * (room if most is None else min(room, most))
        return total

    def _within_limits(self, job: Job) -> Job:
        """The job with its answers cut to what the operator allows. Raises ApiError."""
        config = self._server.config
        if job.n > config.max_choices:
            raise ApiError(400, f"n: expected at most {config.max_choices}, got {job.n}", param="n")
        for prompt in job.prompts:
            tokens, context = len(prompt.tokens), self.loaded.model.context
            room = min(context, config.prompt_tokens or context)
            if tokens > room:
                raise ApiError(
                    400,
                    f"the prompt has {tokens:,} tokens; this server takes at most {room:,}",
                    code="context_length_exceeded",
                    param="messages",
                )
        most = config.answer_tokens
        if most is None or (job.options.max_tokens or most + 1) <= most:
            return job
        return replace(job, options=replace(job.options, max_tokens=most))

    def _close(self, settle: Callable[[int], None]) -> None:
        record = self.record()
        settle(record.prompt_tokens + record.answer_tokens)
        self._server.account(record, self._bill(record))


async def respond(
    request: Request,
    exchange: Exchange,
    *,
    stream: bool,
    whole: Callable[[Exchange], dict[str, Any]],
    frames: Callable[[Exchange], Frames],
    named: bool = False,
) -> Response:
    """The whole answer as JSON, or its frames as they come, as named events or not."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(exchange)
        if not stream:
            await until_disconnect(request, exchange.generation.answers())
            return JSONResponse(whole(exchange))
        return EventStream(frames(exchange), stack.pop_all(), named=named)


_T = TypeVar("_T")


class ClientGone(Exception):
    """The client has closed the connection: nobody reads an answer."""


async def until_disconnect(request: Request, work: Awaitable[_T]) -> _T:
    """The result of `work`, which is cancelled when the client goes. Raises ClientGone."""
    task = asyncio.ensure_future(work)
    watcher = asyncio.create_task(_disconnect(request))
    try:
        await asyncio.wait((task, watcher), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    finally:
        for one in (task, watcher):
            one.cancel()
        await asyncio.gather(task, watcher, return_exceptions=True)


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
