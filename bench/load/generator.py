"""The load generator: many chats with one server at once, and their speed and tail latencies."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import binhdan
from binhdan.bench.common.arrivals import Arrivals, send_all
from binhdan.bench.common.statistics import Percentiles
from binhdan.bench.load.chat_client import Call, ChatClient, Reply
from binhdan.bench.load.prompts import Chats, Sizes


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The result of one load. Times are in seconds; latencies and speeds count complete answers only."""

    arrivals: Arrivals
    sizes: Sizes  # as requested
    seconds: float  # from the first request to the last byte
    answers: int  # complete ones
    failures: dict[str, int]  # reason -> number of requests
    short_answers: int  # with fewer tokens than requested
    tokens_per_s: float  # of all answers together
    requests_per_min: float
    ttft_s: Percentiles | None = None  # from the time at which a request was due; None: no complete answer
    tpot_s: Percentiles | None = None
    end_to_end_s: Percentiles | None = None
    prompt_tokens: float | None = None  # medians; None: the server does not report them
    cached_tokens: float | None = None
    answer_tokens: float | None = None
    client_cpu_s: float  # of this process; the server lacks this time where both share a machine


async def run_load(
    client: ChatClient,
    chats: Chats,
    arrivals: Arrivals,
    *,
    warm_up: int = 1,
    progress: Callable[[], None] = lambda: None,
) -> Load:
    """Sends chats to a server at the times of `arrivals`, after `warm_up` requests that do not count.

    Calls `progress` after each answer. Raises BinhdanError when a warm-up request fails.
    """
    for number in range(warm_up):
        reply = (await client.chat(chats.body(f"warm-up {number}"))).reply()
        if reply.error is not None:
            raise binhdan.BinhdanError(f"the server does not answer a warm-up request: {reply.error}")

    async def send(body: bytes, due: float) -> Call:
        call = await client.chat(body, due)
        progress()
        return call

    bodies = [chats.body(number) for number in range(arrivals.total)]
    cpu, start = time.process_time(), time.perf_counter()
    calls = await send_all(bodies, arrivals, send)
    cpu, end = time.process_time() - cpu, max(call.ended for call in calls)
    return summarize([call.reply() for call in calls], arrivals, chats.sizes, end - start, cpu)


def summarize(replies: Sequence[Reply], arrivals: Arrivals, sizes: Sizes, seconds: float, cpu: float) -> Load:
    """The figures of answers that took `seconds` in total, and `cpu` seconds of this process."""
    complete = [reply for reply in replies if reply.error is None]
    counts = [len(one.times) if one.answer_tokens is None else one.answer_tokens for one in complete]
    # An answer without text has its first token at its end at the latest.
    ttfts = [one.seconds if one.ttft is None else one.ttft for one in complete]
    return Load(
        arrivals=arrivals,
        sizes=sizes,
        seconds=seconds,
        answers=len(complete),
        failures=dict(Counter(reply.error for reply in replies if reply.error is not None)),
        short_answers=sum(count < sizes.answer for count in counts),
        tokens_per_s=sum(counts) / seconds,
        requests_per_min=60 * len(complete) / seconds,
        ttft_s=_percentiles(ttfts),
        tpot_s=_percentiles([one.tpot for one in complete]),
        end_to_end_s=_percentiles([one.seconds for one in complete]),
        prompt_tokens=_median([one.prompt_tokens for one in complete]),
        cached_tokens=_median([one.cached_tokens for one in complete]),
        answer_tokens=_median(counts),
        client_cpu_s=cpu,
    )


def _percentiles(values: Sequence[float | None]) -> Percentiles | None:
    present = [value for value in values if value is not None]
    return Percentiles.of(present) if present else None


def _median(values: Sequence[int | None]) -> float | None:
    present = [value for value in values if value is not None]
    return float(median(present)) if present else None
