"""The lifecycle of a request that generates: plan, run, reply, and the record at its end."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from binhdan.runtime.errors import TooLargeError
from binhdan.runtime.results import Answer
from binhdan.runtime.server.access.keys import Caller
from binhdan.runtime.server.accounting.bill import Bill
from binhdan.runtime.server.accounting.record import AnswerRecord
from binhdan.runtime.server.answers.generation import Generation, GenerationPlan
from binhdan.runtime.server.context import server_of
from binhdan.runtime.server.errors import ApiError
from binhdan.runtime.server.http.sse import EventStream, Frames
from binhdan.runtime.server.models.pool import LoadedModel

_T = TypeVar("_T")


class RequestHandler(Protocol):
    """The part of a request that depends on its endpoint. A route makes one from each validated body."""

    # A handler may also have json_lines = True: its stream is lines of JSON, as in Ollama's API; or
    # with_done = False: its stream has no [DONE], as in llama.cpp's.
    named_events: bool  # name the events of a stream, as /v1/responses does
    prompt_param: str  # the request field that holds the prompt

    def plan(self, loaded: LoadedModel, caller: Caller) -> GenerationPlan:
        """Runs in a worker thread, because a long prompt takes time to tokenize."""

    def to_json(self, lifecycle: RequestLifecycle) -> dict[str, Any]:
        """The response of a request that does not stream. Called when all answers have ended."""

    def to_frames(self, lifecycle: RequestLifecycle) -> Frames:
        """The events of a request that streams, in the order of generation."""


async def respond(request: Request, model: str | None, handler: RequestHandler, *, stream: bool) -> Response:
    """Plans and runs a validated request, and replies with one JSON object, or with a stream of events.

    Raises ApiError, or BinhdanError from the engine, and ClientGone.
    """
    async with AsyncExitStack() as stack:
        lifecycle = await stack.enter_async_context(RequestLifecycle(request, model, handler, stream))
        if stream:
            return EventStream(
                _billed(handler.to_frames(lifecycle), lifecycle),
                stack.pop_all(),
                named=handler.named_events,
                lines=getattr(handler, "json_lines", False),
                done=getattr(handler, "with_done", True),
            )
        await until_disconnect(request, lifecycle.generation.answers())
        response = JSONResponse(handler.to_json(lifecycle))
        await lifecycle.commit()
        return response


async def _billed(frames: Frames, lifecycle: RequestLifecycle) -> Frames:
    """The same events. Those that tell the client of the end come after the bill is in the ledger, if it is
    shared: a machine that is lost then takes no bill with it."""
    async for values in frames:
        if lifecycle.generation.ended:
            await lifecycle.commit()
        yield values


class RequestLifecycle:
    """One request, from its plan to its record. Use it in an `async with`: entering it loads the model, makes
    the plan, admits the request and starts `generation`; leaving it cancels the answers that still run and
    closes the record."""

    loaded: LoadedModel
    plan: GenerationPlan
    generation: Generation

    def __init__(self, request: Request, model: str | None, handler: RequestHandler, stream: bool) -> None:
        self._request = request
        self._server = server_of(request)
        self._model = model
        self._handler = handler
        self._stream = stream
        self._arrived = time.perf_counter()
        self._stack = AsyncExitStack()
        self._record: AnswerRecord | None = None
        self._bill: Bill | None = None
        self._settle: Callable[[int], None] = lambda used: None
        self._closed = False  # the record
        self.caller: Caller = request.state.caller
        self.id = secrets.token_hex(12)  # of the response; a request id may come from the client
        self.created = int(time.time())

    async def __aenter__(self) -> RequestLifecycle:
        async with AsyncExitStack() as stack:
            self.loaded = await stack.enter_async_context(self._server.pool.use(self._model))
            if not self.loaded.model.info.causal:
                raise ApiError(
                    400,
                    "this model is an encoder, which generates no text; use /v1/embeddings",
                    param="model",
                )
            try:
                plan = await asyncio.to_thread(self._handler.plan, self.loaded, self.caller)
            except TooLargeError as error:
                raise self._too_long(str(error)) from error
            self.plan = replace(self._apply_server_limits(plan), retry_invalid=not self._stream)
            admission = await stack.enter_async_context(
                self._server.limiter.admit(self.caller, plan.prompt_tokens, self._max_answer_tokens())
            )
            self._work = self._server.biller.begin(self.loaded.model.info.bytes_per_token / 1e9)
            self.generation = stack.enter_context(
                Generation(self.loaded.dispatcher, self.loaded.model.tokenizer, self.plan, self._work)
            )
            self._settle = admission.settle
            # The last callback runs first: the record is closed before generation and admission end.
            stack.callback(self._close)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        await self._stack.__aexit__(kind, error, trace)

    def answers(self) -> list[Answer]:
        """All answers: complete, or the parts that exist so far."""
        return [self.generation.answer(i) for i in range(len(self.generation))]

    def usage(self) -> dict[str, Any]:
        """OpenAI's `usage` of the finished request, with the bill under "binhdan". It counts all attempts at
        an answer: the prompt of a second one counts again, mostly as cached tokens."""
        record = self.record()
        return {
            "prompt_tokens": record.prompt_tokens,
            "completion_tokens": record.answer_tokens,
            "total_tokens": record.prompt_tokens + record.answer_tokens,
            "prompt_tokens_details": {"cached_tokens": record.cached_tokens},
            "completion_tokens_details": {
                "reasoning_tokens": sum(one.reasoning_tokens for one in self.generation.all_attempts())
            },
            "binhdan": self.bill().usage(),
        }

    def record(self) -> AnswerRecord:
        """What the request used. Computed by the first call: when all answers, or the request, have ended."""
        if self._record is None:
            attempts = [self.generation.attempts(i) for i in range(len(self.generation))]
            retries = [one for tries in attempts for one in tries[1:]]
            # The n answers to one prompt share it: it counts once, and once more for each retry.
            firsts = [tries[0] for tries in attempts[:: self.plan.n]]
            self._record = AnswerRecord(
                request_id=self._request.state.request_id,
                route=self._request.url.path,
                model=self.loaded.name,
                key=self.caller.name,
                finish_reason=attempts[0][-1].finish_reason,
                prompt_tokens=self.plan.prompt_tokens + sum(one.prompt_tokens for one in retries),
                cached_tokens=sum(one.cached_tokens for one in firsts + retries),
                answer_tokens=sum(one.answer_tokens for one in self.generation.all_attempts()),
                queue=max(sum(one.timings.queue for one in tries) for tries in attempts),
                prefill=max(sum(one.timings.prefill for one in tries) for tries in attempts),
                decode=max(sum(one.timings.decode for one in tries) for tries in attempts),
                total=time.perf_counter() - self._arrived,
            )
        return self._record

    def bill(self) -> Bill:
        """What the request cost. Computed by the first call."""
        if self._bill is None:
            self._bill = self._server.biller.bill(self.record(), self._work)
        return self._bill

    def _max_answer_tokens(self) -> int:
        """The maximum number of tokens of all answers together."""
        total = 0
        for prompt in self.plan.prompts:
            left = max(0, self.loaded.model.context - len(prompt.tokens))
            limit = self.plan.options.max_tokens
            total += self.plan.n * (left if limit is None else min(left, limit))
        return total

    def _apply_server_limits(self, plan: GenerationPlan) -> GenerationPlan:
        """The plan with max_tokens reduced to the server's limit. Raises ApiError for too many answers and
        for a prompt that is too long."""
        config = self._server.config
        if plan.n > config.max_choices:
            raise ApiError(400, f"n: expected at most {config.max_choices}, got {plan.n}", param="n")
        context = self.loaded.model.context
        limit = min(context, config.max_prompt_tokens or context)
        for prompt in plan.prompts:
            if len(prompt.tokens) > limit:
                raise self._too_long(
                    f"expected a prompt of at most {limit:,} tokens, got {len(prompt.tokens):,}: shorten it",
                    n_prompt_tokens=len(prompt.tokens),
                )
        maximum = config.max_answer_tokens
        if maximum is None or (plan.options.max_tokens or maximum + 1) <= maximum:
            return plan
        options = plan.options
        return replace(
            plan,
            options=replace(options, max_tokens=maximum, min_tokens=min(options.min_tokens, maximum)),
        )

    def _too_long(self, message: str, **facts: int) -> ApiError:
        """The error of a prompt that is too long, with the members that llama.cpp's has."""
        return ApiError(
            400,
            message,
            code="context_length_exceeded",
            param=self._handler.prompt_param,
            facts={"n_ctx": self.loaded.model.context, **facts},
        )

    async def commit(self) -> None:
        """Closes the record of a request whose answers have ended, and waits until a shared ledger has it."""
        if not self._closed:
            self._close()
            await self._server.committed()

    def _close(self) -> None:
        if self._closed:
            return
        self._closed = True
        record = self.record()
        self._settle(record.prompt_tokens + record.answer_tokens)
        self._server.account(record, self.bill())


class ClientGone(Exception):
    """The client closed the connection before the response was ready."""


async def until_disconnect(request: Request, work: Awaitable[_T]) -> _T:
    """The result of `work`. If the client disconnects first, cancels `work` and raises ClientGone."""
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
