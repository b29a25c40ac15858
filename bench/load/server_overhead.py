"""The overhead of HTTP and Python: the same answers decoded in process and through the server, in turns.

Two clocks measure it. The engine's clock runs from the first token to the last one: it shows the processor
time that the server's threads take from the engine. The client's clock runs from the request to the last byte
and includes prefill and HTTP. The load generator runs on the same cores, so the result has its processor time
too.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import binhdan
from binhdan.bench.common.machine import Machine, this_machine
from binhdan.bench.common.statistics import Spread
from binhdan.bench.load.chat_client import ChatClient, to_json
from binhdan.bench.load.child_decode import Decoded, Work
from binhdan.bench.load.event_loop import run_loop
from binhdan.bench.load.prompts import words
from binhdan.bench.load.servers import binhdan_server

SCHEMA = "binhdan.bench.load.overhead/2"
_PROMPT_WORDS = 24
_TIMEOUT_SECONDS = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Answers that run together. Times are seconds per token; overheads are shares of the time in process."""

    sequences: int
    engine_in_process_s: Spread  # by the engine's clock
    engine_served_s: Spread
    engine_overhead: Spread  # within a round; 0.03 is 3 % more
    wall_in_process_s: Spread  # by the client's clock
    wall_served_s: Spread
    wall_overhead: Spread
    client_cpu_share: Spread  # cores that the load generator used


@dataclass(frozen=True, slots=True, kw_only=True)
class Overhead:
    """All batches."""

    schema: str = SCHEMA
    version: str
    machine: Machine
    model: str
    answer_tokens: int
    rounds: int
    batches: list[Batch]


@dataclass(frozen=True, slots=True)
class _Served:
    decoded: Decoded
    client_cpu_share: float


def measure(
    model: Path,
    *,
    threads: int | None = None,
    batches: Sequence[int] = (1, 16),
    answer_tokens: int = 256,
    rounds: int = 5,
    options: Sequence[str] = (),
    progress: Callable[[int, str], None] = lambda turn, name: None,
) -> Overhead:
    """Measures batches of the given sizes. `options` are additional options of the server. Raises
    BinhdanError."""
    if rounds < 1 or answer_tokens < 2 or not batches or min(batches) < 1:
        raise binhdan.InvalidArgumentError(
            "expected at least 1 round, answers of at least 2 tokens and batches of at least 1 answer, "
            f"got {rounds}, {answer_tokens} and {list(batches)}"
        )
    inside: list[list[Decoded]] = []
    served: list[list[_Served]] = []
    server = binhdan_server(model, threads=threads, options=("--max-sequences", str(max(batches)), *options))
    for turn in range(rounds):
        prompts = [[words(_PROMPT_WORDS, f"{turn} {size} {i}") for i in range(size)] for size in batches]

        def in_process(prompts: list[list[str]] = prompts) -> None:
            work = Work(
                model=str(model),
                threads=threads,
                sequences=max(batches),
                answer_tokens=answer_tokens,
                batches=prompts,
            )
            inside.append(_in_process(work))

        def through_server(prompts: list[list[str]] = prompts) -> None:
            with server.run() as running:
                served.append(run_loop(_serve(running.url, prompts, answer_tokens)))

        turns = [("in process", in_process), ("server", through_server)]
        for name, one in turns if turn % 2 == 0 else reversed(turns):
            progress(turn, name)
            one()
    return Overhead(
        version=binhdan.__version__,
        machine=this_machine(),
        model=model.name,
        answer_tokens=answer_tokens,
        rounds=rounds,
        batches=[
            _batch(size, [one[i] for one in inside], [one[i] for one in served])
            for i, size in enumerate(batches)
        ],
    )


def _batch(size: int, inside: list[Decoded], served: list[_Served]) -> Batch:
    pairs = list(zip(inside, served, strict=True))
    return Batch(
        sequences=size,
        engine_in_process_s=Spread.of([one.engine for one in inside]),
        engine_served_s=Spread.of([one.decoded.engine for one in served]),
        wall_in_process_s=Spread.of([one.wall for one in inside]),
        wall_served_s=Spread.of([one.decoded.wall for one in served]),
        engine_overhead=Spread.of([two.decoded.engine / one.engine - 1 for one, two in pairs]),
        wall_overhead=Spread.of([two.decoded.wall / one.wall - 1 for one, two in pairs]),
        client_cpu_share=Spread.of([one.client_cpu_share for one in served]),
    )


def _in_process(work: Work) -> list[Decoded]:
    command = [sys.executable, "-m", "binhdan.bench.load.child_decode", work.to_json()]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise binhdan.BinhdanError(
            f"decoding in process: expected an end within {_TIMEOUT_SECONDS:g} s, got none"
        ) from error
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise binhdan.BinhdanError(f"decoding in process failed with status {done.returncode}: {reason}")
    return [Decoded(**one) for one in json.loads(done.stdout)]


async def _serve(url: str, batches: Sequence[Sequence[str]], answer_tokens: int) -> list[_Served]:
    async with ChatClient(url, seconds=_TIMEOUT_SECONDS) as client:
        model = await client.model()
        await _decode(client, model, max(batches, key=len), answer_tokens)  # warm-up
        return [await _decode(client, model, prompts, answer_tokens) for prompts in batches]


async def _decode(client: ChatClient, model: str, prompts: Sequence[str], answer_tokens: int) -> _Served:
    bodies = [
        to_json(
            {
                "model": model,
                "prompt": prompt,
                "max_tokens": answer_tokens,
                "ignore_eos": True,
                "temperature": 0,
                "stream": True,
                "stream_options": {"include_usage": True},
            }
        )
        for prompt in prompts
    ]
    cpu, start = time.process_time(), time.perf_counter()
    calls = await asyncio.gather(*(client.call("/completions", body) for body in bodies))
    cpu, seconds = time.process_time() - cpu, max(call.ended for call in calls) - start
    engine = []
    for reply in (call.reply() for call in calls):
        if reply.error is not None or reply.binhdan is None or reply.answer_tokens != answer_tokens:
            raise binhdan.BinhdanError(
                f"the server: expected an answer of {answer_tokens} tokens with usage.binhdan, "
                f"got {reply.error or reply.answer_tokens}"
            )
        engine.append(reply.binhdan["decode_ms"] / 1e3 / (answer_tokens - 1))
    return _Served(Decoded(engine=median(engine), wall=seconds / answer_tokens), cpu / seconds)
