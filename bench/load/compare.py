"""Compares servers on the same machine, model file and chats. The servers take turns; one runs at a time.

Each turn starts a server, warms it up and measures every load on it. Short turns spread a disturbance of the
machine over all servers. Ratios compare the figures of one round.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import binhdan
from binhdan.bench.common.arrivals import Arrivals
from binhdan.bench.common.machine import Machine, this_machine
from binhdan.bench.common.statistics import Spread
from binhdan.bench.load.chat_client import ChatClient
from binhdan.bench.load.event_loop import run_loop
from binhdan.bench.load.generator import Load, run_load
from binhdan.bench.load.prompts import Chats, Sizes, calibrate
from binhdan.bench.load.servers import Server

SCHEMA = "binhdan.bench.load.compare/2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One server under one load, over all rounds.

    A ratio is the first server's figure divided by this server's, for each round; None for the first server.
    """

    server: str
    arrivals: Arrivals
    loads: list[Load]
    tokens_per_s: Spread | None = None
    ttft_p95_s: Spread | None = None
    tokens_per_s_ratio: Spread | None = None  # above 1: the first server is faster
    ttft_p95_ratio: Spread | None = None  # below 1: the first server is faster
    peak_rss_bytes: int | None = None
    failure: str | None = None  # why figures are missing


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All servers under all loads."""

    schema: str = SCHEMA
    version: str  # of binhdan
    machine: Machine
    model: str  # name of the file; "" where it is unknown
    sizes: Sizes
    words_per_token: float
    rounds: int
    results: list[Result]


def compare(
    servers: Sequence[Server],
    arrivals: Sequence[Arrivals],
    sizes: Sizes,
    rounds: int,
    *,
    model: str = "",
    seed: int = 0,
    api_key: str | None = None,
    progress: Callable[[int, str], None] = lambda turn, name: None,
) -> Comparison:
    """Measures `arrivals` on each server, once per round. Each round begins with another server.

    A failure of the first server is an error; any other server that fails is skipped from then on. Calls
    `progress(round, server)` before each run. Raises BinhdanError with the first server's message.
    """
    if rounds < 1 or not servers or not arrivals:
        raise binhdan.InvalidArgumentError(
            "expected at least 1 server, 1 load and 1 round, "
            f"got {len(servers)}, {len(arrivals)} and {rounds}"
        )
    loads: list[list[list[Load]]] = [[] for _ in servers]  # by server, round, arrivals
    peaks: list[int] = [0] * len(servers)
    failures: dict[int, str] = {}
    chats: Chats | None = None
    for turn in range(rounds):
        for position in range(len(servers)):
            index = (turn + position) % len(servers)
            if index in failures:
                continue
            progress(turn, servers[index].name)
            try:
                with servers[index].run() as running:
                    # The first server calibrates the chats: all servers get the same texts.
                    chats, measured = run_loop(_measure(running.url, arrivals, sizes, chats, seed, api_key))
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
            one,
            [measured[which] for measured in loads[index]],
            [measured[which] for measured in loads[0]] if index else None,
            peaks[index] or None,
            failures.get(index),
        )
        for which, one in enumerate(arrivals)
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
    url: str, arrivals: Sequence[Arrivals], sizes: Sizes, chats: Chats | None, seed: int, api_key: str | None
) -> tuple[Chats, list[Load]]:
    async with ChatClient(url, api_key=api_key) as client:
        model = await client.model()
        if chats is None:
            chats = await calibrate(client, sizes, model=model, seed=seed)
        own = chats.for_model(model)
        return chats, [await run_load(client, own, one) for one in arrivals]


def _result(
    name: str,
    arrivals: Arrivals,
    loads: list[Load],
    first: list[Load] | None,
    peak: int | None,
    failure: str | None,
) -> Result:
    if failure is None and not all(load.answers for load in loads):
        failure = "; ".join({why for load in loads for why in load.failures}) or "no complete answer"
    if failure is not None:
        return Result(server=name, arrivals=arrivals, loads=loads, failure=failure)
    speeds = [load.tokens_per_s for load in loads]
    ttfts = [load.ttft_s.p95 for load in loads if load.ttft_s is not None]
    speed_ratio = ttft_ratio = None
    if first is not None and all(load.ttft_s for load in first):
        speed_ratio = Spread.of([a.tokens_per_s / b for a, b in zip(first, speeds, strict=True)])
        ttft_ratio = Spread.of([a.ttft_s.p95 / b for a, b in zip(first, ttfts, strict=True) if a.ttft_s])
    return Result(
        server=name,
        arrivals=arrivals,
        loads=loads,
        tokens_per_s=Spread.of(speeds),
        ttft_p95_s=Spread.of(ttfts),
        tokens_per_s_ratio=speed_ratio,
        ttft_p95_ratio=ttft_ratio,
        peak_rss_bytes=peak,
    )
