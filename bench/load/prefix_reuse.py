"""TTFT with a cached prefix: from memory, and from disk after a restart of the server.

Each run has its own system prompt as the prefix. Cold: the first request with the prefix. Cached: the same
prefix with another question. Restarted: the first request with the same prefix to a new server that has the
prefix cache folder of the old one.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import binhdan
from binhdan.bench.common.machine import Machine, this_machine
from binhdan.bench.common.statistics import Spread
from binhdan.bench.load.chat_client import ChatClient
from binhdan.bench.load.event_loop import run_loop
from binhdan.bench.load.prompts import Chats, Sizes, calibrate
from binhdan.bench.load.servers import binhdan_server

SCHEMA = "binhdan.bench.load.prefix/2"
_QUESTION_TOKENS = 16
_ANSWER_TOKENS = 8
_WRITE_SECONDS = 1.0  # for writing prefixes before SIGKILL; after SIGTERM the server writes them itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Ttft:
    """TTFT and cached tokens over all runs."""

    seconds: Spread
    cached_tokens: Spread  # of the prompt
    of_cold: Spread | None = None  # share of the cold TTFT of the same prefix; None for the cold TTFT itself


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixReuse:
    """The result of all runs."""

    schema: str = SCHEMA
    version: str
    machine: Machine
    model: str
    prefix_tokens: int
    runs: int
    killed: bool  # the first server was ended by SIGKILL
    cold: Ttft
    cached: Ttft
    restarted: Ttft


@dataclass(frozen=True, slots=True)
class _Sample:
    ttft: float
    cached_tokens: int


def measure(
    model: Path,
    *,
    threads: int | None = None,
    tokens: int = 1000,
    runs: int = 5,
    kill: bool = False,
    options: Sequence[str] = (),
    progress: Callable[[int, str], None] = lambda turn, name: None,
) -> PrefixReuse:
    """`kill`: end the first server by SIGKILL. `options` are additional options of the server. Raises
    BinhdanError."""
    if runs < 1:
        raise binhdan.InvalidArgumentError(f"runs: expected at least 1, got {runs}")
    sizes = Sizes(system=tokens, question=_QUESTION_TOKENS, answer=_ANSWER_TOKENS)
    with tempfile.TemporaryDirectory() as folder:
        server = binhdan_server(
            model, threads=threads, options=("--prefix-cache-dir", f"{folder}/prefixes", *options)
        )
        with server.run() as running:
            chats, cold, cached = run_loop(_before(running.url, sizes, runs, progress))
            if kill:
                time.sleep(_WRITE_SECONDS)
            running.end(kill=kill)
        with server.run() as running:
            restarted = run_loop(_after(running.url, chats, runs, progress))
    return PrefixReuse(
        version=binhdan.__version__,
        machine=this_machine(),
        model=model.name,
        prefix_tokens=tokens,
        runs=runs,
        killed=kill,
        cold=_summarize(cold, None),
        cached=_summarize(cached, cold),
        restarted=_summarize(restarted, cold),
    )


def _summarize(samples: list[_Sample], cold: list[_Sample] | None) -> Ttft:
    shares = [a.ttft / b.ttft for a, b in zip(samples, cold, strict=True)] if cold else None
    return Ttft(
        seconds=Spread.of([one.ttft for one in samples]),
        cached_tokens=Spread.of([one.cached_tokens for one in samples]),
        of_cold=Spread.of(shares) if shares else None,
    )


async def _before(
    url: str, sizes: Sizes, runs: int, progress: Callable[[int, str], None]
) -> tuple[Chats, list[_Sample], list[_Sample]]:
    async with ChatClient(url) as client:
        chats = await calibrate(client, sizes)
        await _sample(client, chats, "warm-up", "warm-up")
        cold, cached = [], []
        for run in range(runs):
            progress(run, "cold and cached")
            cold.append(await _sample(client, chats, f"cold {run}", run))
            cached.append(await _sample(client, chats, f"cached {run}", run))
        return chats, cold, cached


async def _after(url: str, chats: Chats, runs: int, progress: Callable[[int, str], None]) -> list[_Sample]:
    async with ChatClient(url) as client:
        await _sample(client, chats, "warm-up", "another warm-up")
        samples = []
        for run in range(runs):
            progress(run, "restarted")
            samples.append(await _sample(client, chats, f"restarted {run}", run))
        return samples


async def _sample(client: ChatClient, chats: Chats, question: str, system: int | str) -> _Sample:
    reply = (await client.chat(chats.body(question, system=system))).reply()
    if reply.error is not None or reply.ttft is None:
        raise binhdan.BinhdanError(
            f"the server: expected an answer with text, got {reply.error or 'no text'}"
        )
    return _Sample(reply.ttft, reply.cached_tokens or 0)
