"""Many short requests from many clients, a third of them cancelled or broken: is any lost, stuck or unlike,
and does the server keep what it should give back?

Each good answer is compared with the one that the same question got alone: text, reason, tokens, and where
they were asked for log probabilities, digit by digit.
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
from binhdan.bench.load.client import NO_END, Call, ChatClient, Reply, to_json
from binhdan.bench.load.faults import FAULTS
from binhdan.bench.load.http import HttpError
from binhdan.bench.load.loop import run as run_loop
from binhdan.bench.load.servers import Child, binhdan_server
from binhdan.bench.load.texts import words

SCHEMA = "binhdan.bench.serve.soak/1"
_QUESTIONS = 48
_PATIENCE_SECONDS = 120.0  # a request without an end after so long is stuck
_SETTLE_SECONDS = 15.0
_MOST_DRIFT = 0.05
_WARM_UP = 0.2  # of the requests: memory may grow so long
_ANSWERED = ("good", "dribble")  # kinds that must get their answer
_GAUGES = ("binhdan_requests_running", "binhdan_requests_waiting", "binhdan_kv_bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Soak:
    """What came of it."""

    schema: str = SCHEMA
    version: str
    machine: Machine
    model: str
    deterministic: bool
    clients: int
    requests: dict[str, int]  # by kind; "good" ones, and the faults
    seconds: float
    answers: int  # that came whole to good and dribbled requests
    lost: dict[str, int]  # why good or dribbled requests got no whole answer -> how many; stuck ones too
    stuck: int
    different: int  # answers unlike the one that the same question got alone
    server_errors: int  # statuses of 500 and above, but for 503
    statuses: dict[str, int]  # "garbage 400" -> how many
    rss_bytes: list[tuple[int, int]]  # requests done, bytes
    rss_drift: float | None  # the most that memory was away from where it stood after warming up; 0.05 is 5 %
    descriptors: tuple[int, int] | None  # that the server held before and after
    left: dict[str, float]  # what the server still does at the end, by its metrics
    problems: list[str] = field(default_factory=list)  # empty: it passed


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
    """`progress` hears of each request that has ended. Raises BinhdanError when the server fails at once."""
    if requests < 10 or clients < 1:
        raise binhdan.InvalidArgumentError(
            f"expected at least 10 requests and 1 client, got {requests} and {clients}"
        )
    if deterministic:
        options = ("--deterministic", *options)
    with binhdan_server(model, threads=threads, options=options).run() as child:
        run = _Run(child, requests, clients, seed, progress)
        run_loop(run.run())
        problems = [] if child.alive else ["the server has ended"]
    return run.result(model.name, deterministic, problems)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """A request that has ended, in short: ten thousand answers would be large."""

    kind: str
    status: int
    error: str | None
    different: bool | None  # None: nothing to compare


class _Run:
    """One soak of a server that runs."""

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
        async with ChatClient(self._child.url, seconds=_PATIENCE_SECONDS) as client:
            questions = [_Question(await client.model(), number) for number in range(_QUESTIONS)]
            for question in questions:
                reply = (await client.chat(question.body(stream=False))).reply()
                if reply.error is not None:
                    raise binhdan.BinhdanError(f"the server does not answer: {reply.error}")
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
        for kind, chance in jobs:
            number = chance.randrange(len(questions))
            streamed = kind == "cancelled" or chance.random() < 0.5
            body = questions[number].body(stream=streamed)
            call = await (FAULTS[kind](client, body, chance) if kind in FAULTS else client.chat(body))
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
            stuck=sum(one.error == NO_END for one in answered),
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
    """A short question. Every other one stands behind a system prompt that fills a page, so that prompts are
    known by their beginnings; every third one asks for log probabilities too."""

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
    """The kind of each request, a third of them faults, with its own chance: others' do not change it."""
    chance = Random(seed)
    for _ in range(requests):
        kind = chance.choice(list(FAULTS)) if chance.random() < 1 / 3 else "good"
        yield kind, Random(chance.getrandbits(64))


def _content(reply: Reply) -> tuple[object, ...]:
    return reply.text, reply.finish_reason, reply.prompt_tokens, reply.answer_tokens, reply.logprobs


async def _settle(client: ChatClient) -> dict[str, float]:
    """What the server's gauges say when they are at 0, or will not come there. Empty without gauges."""
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
    """The sums over models of some gauges of Prometheus's text format."""
    left: dict[str, float] = {}
    for line in page.splitlines():
        name = re.split(r"[{ ]", line, maxsplit=1)[0]
        if name in _GAUGES:
            left[name] = left.get(name, 0.0) + float(line.rpartition(" ")[2])
    return left


def drift(samples: Sequence[tuple[int, int]], requests: int) -> float | None:
    """The largest share by which memory left its median of the tenth of all requests after warming up, as
    medians of five samples: one may catch a passing peak. None with too few samples."""
    warm = [bytes for done, bytes in samples if _WARM_UP <= done / requests <= _WARM_UP + 0.1]
    later = [bytes for done, bytes in samples if done / requests > _WARM_UP + 0.1]
    if not warm or len(later) < 5:
        return None
    middles = [median(later[i : i + 5]) for i in range(len(later) - 4)]
    return max((middle / median(warm) - 1 for middle in middles), key=abs)


def _problems(result: Soak) -> list[str]:
    problems = [f"{count} lost: {why}" for why, count in result.lost.items()]
    if result.deterministic and result.different:
        problems.append(f"{result.different} of {result.answers} answers differ")
    if result.server_errors:
        problems.append(f"{result.server_errors} answers with status 500 or above")
    if result.rss_drift is not None and abs(result.rss_drift) > _MOST_DRIFT:
        problems.append(f"memory moved by {result.rss_drift:+.1%}")
    if result.descriptors is not None and result.descriptors[1] > result.descriptors[0] + 2:
        problems.append("{} descriptors before, {} after".format(*result.descriptors))
    problems += [f"{name} is still {value:g}" for name, value in result.left.items() if value]
    return problems
