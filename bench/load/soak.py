"""A soak test: many short requests from many clients, a third of them cancelled or broken.

It finds answers that are lost, late or different, and resources that the server does not free. Each valid
answer is compared with the answer to the same question when it ran alone: text, finish reason, number of
tokens and, if requested, every digit of the log probabilities.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter
from typing import Any

import binhdan
from binhdan.bench.common.machine import Machine, this_machine
from binhdan.bench.load.chat_client import TIMED_OUT, Call, ChatClient, Reply, to_json
from binhdan.bench.load.event_loop import run_loop
from binhdan.bench.load.faulty_clients import FAULTS
from binhdan.bench.load.http_client import HttpError
from binhdan.bench.load.prompts import words
from binhdan.bench.load.servers import Child, binhdan_server

SCHEMA = "binhdan.bench.load.soak/2"
_QUESTIONS = 48
_TIMEOUT_SECONDS = 120.0  # a request that takes longer is stuck
_SETTLE_SECONDS = 15.0  # for the server's gauges to reach 0 after the last request
_MAX_DRIFT = 0.05
_WARM_UP = 0.2  # share of the requests during which memory may grow
_ANSWERED = ("good", "dribble")  # kinds of requests that must get a complete answer
_GAUGES = ("binhdan_requests_running", "binhdan_requests_waiting", "binhdan_kv_bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Soak:
    """The result of a soak test."""

    schema: str = SCHEMA
    version: str
    machine: Machine
    model: str
    deterministic: bool
    clients: int
    requests: dict[str, int]  # kind -> number; "good", and the kinds of faulty clients
    seconds: float
    answers: int  # complete ones to "good" and "dribble" requests
    lost: dict[str, int]  # reason -> number of "good" and "dribble" requests without a complete answer
    stuck: int  # lost requests that timed out
    different: int  # answers that differ from the answer to the same question alone
    server_errors: int  # statuses of 500 and above, except 503
    statuses: dict[str, int]  # kind and status, such as "garbage 400" -> number
    rss_bytes: list[tuple[int, int]]  # completed requests, resident bytes
    rss_drift: float | None  # largest change of memory since the end of the warm-up; 0.05 is 5 %
    descriptors: tuple[int, int] | None  # open file descriptors of the server before and after
    left: dict[str, float]  # gauges of the server's metrics at the end
    problems: list[str] = field(default_factory=list)  # empty: passed


def soak(
    model: Path,
    *,
    threads: int | None = None,
    requests: int = 10_000,
    clients: int = 64,
    deterministic: bool = True,
    seed: int = 0,
    options: Sequence[str] = (),
    progress: Callable[[], None] = lambda: None,
) -> Soak:
    """Runs a soak test of `binhdan serve`. Calls `progress` after each request.

    Raises BinhdanError when the server fails at one of the questions alone.
    """
    if requests < 10 or clients < 1:
        raise binhdan.InvalidArgumentError(
            f"expected at least 10 requests and 1 client, got {requests} and {clients}"
        )
    if deterministic:
        options = ("--deterministic", *options)
    with binhdan_server(model, threads=threads, options=options).run() as child:
        run = _Run(child, requests, clients, seed, progress)
        run_loop(run.run())
        problems = [] if child.alive else ["the server process has ended"]
    return run.result(model.name, deterministic, problems)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """A short record of a completed request; ten thousand complete answers would take much memory."""

    kind: str
    status: int
    error: str | None
    different: bool | None  # from the answer alone; None: no complete answer


class _Run:
    """One soak test of a running server."""

    def __init__(
        self, child: Child, requests: int, clients: int, seed: int, progress: Callable[[], None]
    ) -> None:
        self._child = child
        self._requests = requests
        self._clients = clients
        self._seed = seed
        self._progress = progress
        self._alone: list[Reply] = []
        self._outcomes: list[_Outcome] = []
        self._rss: list[tuple[int, int]] = []
        self._descriptors: tuple[int, int] | None = None
        self._left: dict[str, float] = {}
        self._seconds = 0.0

    async def run(self) -> None:
        async with ChatClient(self._child.url, seconds=_TIMEOUT_SECONDS) as client:
            questions = [_Question(await client.model(), number) for number in range(_QUESTIONS)]
            for question in questions:
                reply = (await client.chat(question.body(stream=False))).reply()
                if reply.error is not None:
                    raise binhdan.BinhdanError(f"the server does not answer a question alone: {reply.error}")
                self._alone.append(reply)
            before, start = self._child.descriptors(), perf_counter()
            jobs = _jobs(self._requests, self._seed)
            await asyncio.gather(*(self._work(client, questions, jobs) for _ in range(self._clients)))
            self._seconds = perf_counter() - start
        async with ChatClient(self._child.url) as client:
            self._left = await _settle(client)
            after = self._child.descriptors()
        if before is not None and after is not None:
            self._descriptors = (before, after)

    async def _work(
        self, client: ChatClient, questions: Sequence[_Question], jobs: Iterator[tuple[str, Random]]
    ) -> None:
        for kind, rng in jobs:
            number = rng.randrange(len(questions))
            streamed = kind == "cancelled" or rng.random() < 0.5
            body = questions[number].body(stream=streamed)
            call = await (FAULTS[kind](client, body, rng) if kind in FAULTS else client.chat(body))
            self._outcomes.append(self._outcome(kind, number, call))
            self._progress()
            done = len(self._outcomes)
            if done % max(1, self._requests // 100) == 0 and (rss := self._child.memory().now):
                self._rss.append((done, rss))

    def _outcome(self, kind: str, number: int, call: Call) -> _Outcome:
        status = call.response.status if call.response is not None else 0
        if kind not in _ANSWERED:
            return _Outcome(kind, status, call.failure, None)
        reply = call.reply()
        different = None if reply.error is not None else _content(reply) != _content(self._alone[number])
        return _Outcome(kind, status, reply.error, different)

    def result(self, model: str, deterministic: bool, problems: list[str]) -> Soak:
        answered = [one for one in self._outcomes if one.kind in _ANSWERED]
        lost = Counter(f"{one.kind}: {one.error}" for one in answered if one.error is not None)
        statuses = Counter(f"{one.kind} {one.status}" for one in self._outcomes)
        result = Soak(
            version=binhdan.__version__,
            machine=this_machine(),
            model=model,
            deterministic=deterministic,
            clients=self._clients,
            requests=dict(Counter(one.kind for one in self._outcomes)),
            seconds=self._seconds,
            answers=sum(one.different is not None for one in answered),
            lost=dict(lost),
            stuck=sum(one.error == TIMED_OUT for one in answered),
            different=sum(one.different is True for one in answered),
            server_errors=sum(one.status >= 500 and one.status != 503 for one in self._outcomes),
            statuses=dict(sorted(statuses.items())),
            rss_bytes=self._rss,
            rss_drift=drift(self._rss, self._requests),
            descriptors=self._descriptors,
            left=self._left,
        )
        return replace(result, problems=problems + _problems(result))


class _Question:
    """A short question. Every second one has a system prompt that fills a KV page, so that the prefix cache
    is used. Every third one requests log probabilities."""

    def __init__(self, model: str, number: int) -> None:
        messages = [{"role": "user", "content": words(4 + 7 * number % 120, f"soak {number}")}]
        if number % 2:
            messages.insert(0, {"role": "system", "content": words(90, "soak")})
        self._fields: dict[str, Any] = {
            "model": model,
            "messages": messages,
            "max_tokens": 4 + number % 21,
            "temperature": 0,
        }
        if number % 3 == 0:
            self._fields |= {"logprobs": True, "top_logprobs": 2}

    def body(self, *, stream: bool) -> bytes:
        more = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
        return to_json(self._fields | more)


def _jobs(requests: int, seed: int) -> Iterator[tuple[str, Random]]:
    """The kind of each request, a third of them faulty, and its own random generator: the order in which the
    clients take requests does not change them."""
    rng = Random(seed)
    for _ in range(requests):
        kind = rng.choice(list(FAULTS)) if rng.random() < 1 / 3 else "good"
        yield kind, Random(rng.getrandbits(64))


def _content(reply: Reply) -> tuple[object, ...]:
    return reply.text, reply.finish_reason, reply.prompt_tokens, reply.answer_tokens, reply.logprobs


async def _settle(client: ChatClient) -> dict[str, float]:
    """The server's gauges when all are 0, or after a timeout. Empty for a server without gauges."""
    deadline = perf_counter() + _SETTLE_SECONDS
    while True:
        try:
            response = await client.http.request("GET", "//metrics")
            page = response.body.decode("utf-8", "replace") if response.status == 200 else ""
        except HttpError:
            page = ""
        left = gauges(page)
        if not any(left.values()) or perf_counter() > deadline:
            return left
        await asyncio.sleep(0.1)


def gauges(page: str) -> dict[str, float]:
    """Parses Prometheus's text format; returns the watched gauges, summed over models."""
    left: dict[str, float] = {}
    for line in page.splitlines():
        name = re.split(r"[{ ]", line, maxsplit=1)[0]
        if name in _GAUGES:
            left[name] = left.get(name, 0.0) + float(line.rpartition(" ")[2])
    return left


def drift(samples: Sequence[tuple[int, int]], requests: int) -> float | None:
    """The largest relative change of memory since the warm-up; None with too few samples.

    `samples` are completed requests and bytes. The reference is the median over the tenth of all requests
    that follows the warm-up. Later samples are smoothed by medians of five, so that a short peak does not
    count.
    """
    warm = [bytes for done, bytes in samples if _WARM_UP <= done / requests <= _WARM_UP + 0.1]
    later = [bytes for done, bytes in samples if done / requests > _WARM_UP + 0.1]
    if not warm or len(later) < 5:
        return None
    smooth = [median(later[i : i + 5]) for i in range(len(later) - 4)]
    return max((bytes / median(warm) - 1 for bytes in smooth), key=abs)


def _problems(result: Soak) -> list[str]:
    problems = [f"{count} lost: {why}" for why, count in result.lost.items()]
    if result.deterministic and result.different:
        problems.append(f"{result.different} of {result.answers} answers differ from the same question alone")
    if result.server_errors:
        problems.append(f"{result.server_errors} answers with status 500 or above")
    if result.rss_drift is not None and abs(result.rss_drift) > _MAX_DRIFT:
        problems.append(f"memory changed by {result.rss_drift:+.1%}, expected at most {_MAX_DRIFT:.0%}")
    if result.descriptors is not None and result.descriptors[1] > result.descriptors[0] + 2:
        problems.append("{} open file descriptors before, {} after".format(*result.descriptors))
    problems += [f"{name} is still {value:g}, expected 0" for name, value in result.left.items() if value]
    return problems
