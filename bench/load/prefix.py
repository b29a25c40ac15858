"""How soon an answer begins after a prefix that is known: from memory, and from disk after a restart.

Each run has a system prompt of its own. Cold: nobody has sent it. Known: the same one with another question.
Restarted: the same once more, the first time that a server with the old one's folder of prefixes meets it.
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
from binhdan.bench.load.client import ChatClient
from binhdan.bench.load.loop import run as run_loop
from binhdan.bench.load.servers import binhdan_server
from binhdan.bench.load.texts import Chats, Sizes, calibrate

SCHEMA = "binhdan.bench.serve.prefix/1"
_QUESTION_TOKENS = 16
_ANSWER_TOKENS = 8
_WRITE_SECONDS = 1.0  # before a kill; a server that is asked to end needs none


@dataclass(frozen=True, slots=True, kw_only=True)
class First:
    """Seconds to the first text."""

    seconds: Spread
    cached_tokens: Spread  # of the prompt
    of_cold: Spread | None = None  # share of the cold one's seconds, prefix by prefix; None for cold itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefix:
    """All runs."""

    schema: str = SCHEMA
    version: str
    machine: Machine
    model: str
    prefix_tokens: int
    runs: int
    killed: bool  # the server had no time to end before the restart
    cold: First
    known: First
    restarted: First


@dataclass(frozen=True, slots=True)
class _Begin:
    seconds: float
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
) -> Prefix:
    """`kill`: end the first server by SIGKILL. `options` are more of the server's. Raises BinhdanError."""
    if runs < 1:
        raise binhdan.InvalidArgumentError(f"runs: expected at least 1, got {runs}")
    sizes = Sizes(system=tokens, question=_QUESTION_TOKENS, answer=_ANSWER_TOKENS)
    with tempfile.TemporaryDirectory() as folder:
        server = binhdan_server(
            model, threads=threads, options=("--prefix-cache-dir", f"{folder}/prefixes", *options)
        )
        with server.run() as running:
            chats, cold, known = run_loop(_before(running.url, sizes, runs, progress))
            if kill:
                time.sleep(_WRITE_SECONDS)
            running.end(kill=kill)
        with server.run() as running:
            restarted = run_loop(_after(running.url, chats, runs, progress))
    return Prefix(
        version=binhdan.__version__,
        machine=this_machine(),
        model=model.name,
        prefix_tokens=tokens,
        runs=runs,
        killed=kill,
        cold=_first(cold, None),
        known=_first(known, cold),
        restarted=_first(restarted, cold),
    )


def _first(begins: list[_Begin], cold: list[_Begin] | None) -> First:
    return First(
        seconds=Spread.of([one.seconds for one in begins]),
        cached_tokens=Spread.of([one.cached_tokens for one in begins]),
        of_cold=Spread.of([a.seconds / b.seconds for a, b in zip(begins, cold, strict=True)])
        if cold
        else None,
    )


async def _before(
    url: str, sizes: Sizes, runs: int, progress: Callable[[int, str], None]
) -> tuple[Chats, list[_Begin], list[_Begin]]:
    async with ChatClient(url) as client:
        chats = await calibrate(client, sizes)
        await _begin(client, chats, "warm-up", "warm-up")
        cold, known = [], []
        for run in range(runs):
            progress(run, "cold and known")
            cold.append(await _begin(client, chats, f"cold {run}", run))
            known.append(await _begin(client, chats, f"known {run}", run))
        return chats, cold, known


async def _after(url: str, chats: Chats, runs: int, progress: Callable[[int, str], None]) -> list[_Begin]:
    async with ChatClient(url) as client:
        await _begin(client, chats, "warm-up", "another warm-up")
        begins = []
        for run in range(runs):
            progress(run, "restarted")
            begins.append(await _begin(client, chats, f"restarted {run}", run))
        return begins


async def _begin(client: ChatClient, chats: Chats, question: str, system: int | str) -> _Begin:
    reply = (await client.chat(chats.body(question, system=system))).reply()
    if reply.error is not None or reply.first_token is None:
        raise binhdan.BinhdanError(f"no answer: {reply.error or 'it has no text'}")
    return _Begin(reply.first_token, reply.cached_tokens or 0)
