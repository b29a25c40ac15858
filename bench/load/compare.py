"""Servers beside each other: the same model file, chats and machine, one server up at a time, in turns.

Each turn starts a server anew, warms it up and puts every plan on it; what disturbs the machine disturbs all
of them. Ratios are taken between the figures of one round.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import binhdan
from binhdan.bench.common.machine import Machine, this_machine
from binhdan.bench.common.statistics import Spread
from binhdan.bench.load.client import ChatClient
from binhdan.bench.load.generator import Load, Plan, run
from binhdan.bench.load.loop import run as run_loop
from binhdan.bench.load.servers import Server
from binhdan.bench.load.texts import Chats, Sizes, calibrate

SCHEMA = "binhdan.bench.serve.compare/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One server under one plan, over all rounds. Ratios are the first server's figure over this one's, round
    by round; None for the first."""

    server: str
    plan: Plan
    loads: list[Load]
    tokens_per_s: Spread | None = None
    first_token_p95_s: Spread | None = None
    tokens_per_s_ratio: Spread | None = None  # above 1: the first gives more
    first_token_p95_ratio: Spread | None = None  # below 1: the first begins sooner
    peak_rss_bytes: int | None = None
    failure: str | None = None  # why there are no figures, or too few


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All servers under all plans."""

    schema: str = SCHEMA
    version: str  # of binhdan
    machine: Machine
    model: str  # name of the file; "" for servers elsewhere
    sizes: Sizes
    words_per_token: float
    rounds: int
    results: list[Result]


def compare(
    servers: Sequence[Server],
    plans: Sequence[Plan],
    sizes: Sizes,
    rounds: int,
    *,
    model: str = "",
    seed: int = 0,
    api_key: str | None = None,
    progress: Callable[[int, str], None] = lambda turn, name: None,
) -> Comparison:
    """Runs the servers in turns, and another one first in each round. The first of `servers` must not fail,
    others are left out once they do; `progress` hears of each run before it.

    Raises BinhdanError with the first server's message.
    """
    if rounds < 1 or not servers or not plans:
        raise binhdan.InvalidArgumentError("expected at least 1 server, 1 load and 1 round")
    loads: list[list[list[Load]]] = [[] for _ in servers]  # server, round, plan
    peaks: list[int] = [0] * len(servers)
    failures: dict[int, str] = {}
    chats: Chats | None = None
    for turn in range(rounds):
        for place in range(len(servers)):
            index = (turn + place) % len(servers)
            if index in failures:
                continue
            progress(turn, servers[index].name)
            try:
                with servers[index].run() as running:
                    texts, measured = run_loop(_measure(running.url, plans, sizes, chats, seed, api_key))
                    chats = chats or texts  # counted once: all of them get the same texts
                    peaks[index] = max(peaks[index], running.memory().peak or 0)
                loads[index].append(measured)
            except binhdan.BinhdanError as error:
                if index == 0:
                    raise
                failures[index] = str(error)
    assert chats is not None
    results = [
        _result(
            server.name,
            plan,
            [one[which] for one in loads[index]],
            [one[which] for one in loads[0]] if index else None,
            peaks[index] or None,
            failures.get(index),
        )
        for which, plan in enumerate(plans)
        for index, server in enumerate(servers)
    ]
    return Comparison(
        version=binhdan.__version__,
        machine=this_machine(),
        model=model,
        sizes=sizes,
        words_per_token=1 / chats.tokens_per_word,
        rounds=rounds,
        results=results,
    )


async def _measure(
    url: str, plans: Sequence[Plan], sizes: Sizes, chats: Chats | None, seed: int, api_key: str | None
) -> tuple[Chats, list[Load]]:
    async with ChatClient(url, api_key=api_key) as client:
        model = await client.model()
        if chats is None:
            chats = await calibrate(client, sizes, model=model, seed=seed)
        own = chats.named(model)
        return chats, [await run(client, own, plan) for plan in plans]


def _result(
    name: str,
    plan: Plan,
    loads: list[Load],
    first: list[Load] | None,
    peak: int | None,
    failure: str | None,
) -> Result:
    if failure is None and not all(load.answers for load in loads):
        failure = "; ".join({why for load in loads for why in load.failures}) or "no answers"
    if failure is not None:
        return Result(server=name, plan=plan, loads=loads, failure=failure)
    speeds = [load.tokens_per_s for load in loads]
    firsts = [load.first_token_s.p95 for load in loads if load.first_token_s is not None]
    speed_ratio = first_ratio = None
    if first is not None and all(load.first_token_s for load in first):
        speed_ratio = Spread.of([a.tokens_per_s / b for a, b in zip(first, speeds, strict=True)])
        first_ratio = Spread.of(
            [a.first_token_s.p95 / b for a, b in zip(first, firsts, strict=True) if a.first_token_s]
        )
    return Result(
        server=name,
        plan=plan,
        loads=loads,
        tokens_per_s=Spread.of(speeds),
        first_token_p95_s=Spread.of(firsts),
        tokens_per_s_ratio=speed_ratio,
        first_token_p95_ratio=first_ratio,
        peak_rss_bytes=peak,
    )
