"""Requests at their times: in a closed loop, where each user waits for the answer, and in an open one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from time import perf_counter

from binhdan.bench.load.generator import Open
from binhdan.bench.suite.result import Arrival
from binhdan.bench.suite.targets import Question, Sample, Target

Read = Callable[[], Sample]


async def visit(
    target: Target, questions: Sequence[Question], arrival: Arrival, *, seed: int = 0
) -> tuple[list[Sample], float]:
    """Asks all of them, and the seconds from the first request to the end of the last answer."""
    start = perf_counter()
    if arrival.kind == "closed":
        reads = await _closed(target, questions, arrival.users or 1)
    else:
        reads = await _open(target, questions, arrival.rate or 1.0, seed)
    samples = [read() for read in reads]
    return samples, max(sample.ended for sample in samples) - start


async def _closed(target: Target, questions: Sequence[Question], users: int) -> list[Read]:
    reads: list[Read] = []

    async def user(first: int) -> None:
        for question in questions[first::users]:
            reads.append(await target.ask(question, perf_counter()))

    if users == 1:
        await user(0)
    else:
        await asyncio.gather(*map(user, range(users)))
    return reads


async def _open(target: Target, questions: Sequence[Question], rate: float, seed: int) -> list[Read]:
    start = perf_counter()

    async def visitor(question: Question, arrival: float) -> Read:
        await asyncio.sleep(start + arrival - perf_counter())
        return await target.ask(question, start + arrival)

    arrivals = Open(rate=rate, requests=len(questions), seed=seed).arrivals()
    return list(await asyncio.gather(*map(visitor, questions, arrivals)))
