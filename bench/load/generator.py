"""Many chats with one server at once, and the speeds and tails that come of it.

Closed loop: each of some users sends a request when the answer to the last one has ended. Open loop: requests
come at random times that do not wait for anyone, as those of many people do; what the server cannot keep up
with shows in the tails.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import binhdan
from binhdan.bench.load.client import Call, ChatClient, Reply
from binhdan.bench.load.texts import Chats, Sizes


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """`users` that send `requests` each."""

    users: int = 16
    requests: int = 4

    def __post_init__(self) -> None:
        if self.users < 1 or self.requests < 1:
            raise binhdan.InvalidArgumentError(
                f"expected at least 1 user and 1 request, got {self.users} and {self.requests}"
            )

    @property
    def total(self) -> int:
        return self.users * self.requests

    def __str__(self) -> str:
        return f"{self.users} users" if self.users > 1 else "1 user"


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """`requests` together, `rate` a second on average, at the times of a Poisson process."""

    rate: float
    requests: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rate <= 0 or self.requests < 1:
            raise binhdan.InvalidArgumentError(
                f"expected a rate above 0 and at least 1 request, got {self.rate:g} and {self.requests}"
            )

    @property
    def total(self) -> int:
        return self.requests

    def arrivals(self) -> list[float]:
        """Seconds from the start, ascending."""
        chance, now, times = random.Random(self.seed), 0.0, []
        for _ in range(self.requests):
            now += chance.expovariate(self.rate)
            times.append(now)
        return times

    def __str__(self) -> str:
        return f"{self.rate:g} requests/s"


Plan = Closed | Open


@dataclass(frozen=True, slots=True)
class Tail:
    """Percentiles, between two values where none stands at one."""

    p50: float
    p95: float
    p99: float

    @staticmethod
    def of(values: Sequence[float]) -> Tail:
        ordered = sorted(values)
        return Tail(*(percentile(ordered, share) for share in (0.5, 0.95, 0.99)))


def percentile(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What one load gave. Times in seconds; figures are of the answers that came whole."""

    plan: Plan
    sizes: Sizes  # as wanted
    seconds: float  # from the first request to the last byte
    answers: int
    failures: dict[str, int]  # why -> how many
    short_answers: int  # with fewer tokens than were asked for
    tokens_per_s: float  # of all answers together
    requests_per_min: float
    first_token_s: Tail | None = None  # from when a request was due; None: no answer came whole
    per_token_s: Tail | None = None
    end_to_end_s: Tail | None = None
    prompt_tokens: float | None = None  # medians; None: the server does not say
    cached_tokens: float | None = None
    answer_tokens: float | None = None
    client_cpu_s: float  # of this process meanwhile: taken from the server where both share a machine


async def run(
    client: ChatClient,
    chats: Chats,
    plan: Plan,
    *,
    warm_up: int = 1,
    progress: Callable[[], None] = lambda: None,
) -> Load:
    """Puts `plan` on a server, after `warm_up` requests that do not count; `progress` hears of each answer.

    Raises BinhdanError when warming up fails.
    """
    for number in range(warm_up):
        reply = (await client.chat(chats.body(f"warm-up {number}"))).reply()
        if reply.error is not None:
            raise binhdan.BinhdanError(f"the server does not answer: {reply.error}")
    bodies = [chats.body(number) for number in range(plan.total)]
    cpu, start = time.process_time(), time.perf_counter()
    if isinstance(plan, Closed):
        calls = await _closed(client, bodies, plan, progress)
    else:
        calls = await _open(client, bodies, plan, progress)
    cpu, end = time.process_time() - cpu, max(call.ended for call in calls)
    return summary([call.reply() for call in calls], plan, chats.sizes, end - start, cpu)


async def _closed(
    client: ChatClient, bodies: Sequence[bytes], plan: Closed, progress: Callable[[], None]
) -> list[Call]:
    calls: list[Call] = []

    async def user(first: int) -> None:
        for body in bodies[first :: plan.users]:
            calls.append(await client.chat(body))
            progress()

    await asyncio.gather(*map(user, range(plan.users)))
    return calls


async def _open(
    client: ChatClient, bodies: Sequence[bytes], plan: Open, progress: Callable[[], None]
) -> list[Call]:
    start = time.perf_counter()

    async def visitor(body: bytes, arrival: float) -> Call:
        await asyncio.sleep(start + arrival - time.perf_counter())
        call = await client.chat(body, start + arrival)
        progress()
        return call

    return await asyncio.gather(*map(visitor, bodies, plan.arrivals()))


def summary(replies: Sequence[Reply], plan: Plan, sizes: Sizes, seconds: float, cpu: float) -> Load:
    """The figures of some answers that took `seconds` together."""
    whole = [reply for reply in replies if reply.error is None]
    counts = [len(one.times) if one.answer_tokens is None else one.answer_tokens for one in whole]
    # An answer without any text has its first token at its end at the latest.
    firsts = [one.seconds if one.first_token is None else one.first_token for one in whole]
    return Load(
        plan=plan,
        sizes=sizes,
        seconds=seconds,
        answers=len(whole),
        failures=dict(Counter(reply.error for reply in replies if reply.error is not None)),
        short_answers=sum(count < sizes.answer for count in counts),
        tokens_per_s=sum(counts) / seconds,
        requests_per_min=60 * len(whole) / seconds,
        first_token_s=_tail(firsts),
        per_token_s=_tail([one.per_token for one in whole]),
        end_to_end_s=_tail([one.seconds for one in whole]),
        prompt_tokens=_median([one.prompt_tokens for one in whole]),
        cached_tokens=_median([one.cached_tokens for one in whole]),
        answer_tokens=_median(counts),
        client_cpu_s=cpu,
    )


def _tail(values: Sequence[float | None]) -> Tail | None:
    known = [value for value in values if value is not None]
    return Tail.of(known) if known else None


def _median(values: Sequence[int | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(median(known)) if known else None
