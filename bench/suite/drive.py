"""The questions of a case, sent in its closed or open loop."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

from binhdan.bench.common.arrivals import Closed, Open, send_all
from binhdan.bench.suite.result import Arrival
from binhdan.bench.suite.targets import Question, Sample, Target


async def visit(
    target: Target, questions: Sequence[Question], arrival: Arrival, *, seed: int = 0
) -> tuple[list[Sample], float]:
    """Sends all questions. Returns the answers in the same order, and the seconds from the first request to
    the end of the last answer."""
    start = perf_counter()
    if arrival.kind == "closed":
        loop: Closed | Open = Closed(users=arrival.users or 1)
    else:
        loop = Open(rate=arrival.rate or 1.0, requests=len(questions), seed=seed)
    reads = await send_all(questions, loop, target.ask)
    samples = [read() for read in reads]  # after the last answer: reading takes time from the engine
    return samples, max(sample.ended for sample in samples) - start
