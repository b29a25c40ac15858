"""`binhdan bench peers`: this engine and others with the same file, threads and sizes, in turns.

The engines take turns, so that a disturbance of the machine affects all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import binhdan
from binhdan.bench.common.machine import Machine, this_machine
from binhdan.bench.common.statistics import Spread
from binhdan.bench.micro.case import Case, bytes_of_step
from binhdan.bench.micro.engines import Engine, EngineError, Trial
from binhdan.runtime.ffi import library


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """All trials of one engine. Rates are tokens per second, of all sequences together."""

    name: str
    version: str = ""
    instruction_sets: str = ""  # the engine's own names; "" when it does not print them
    prompt: Spread | None = None
    decode: Spread | None = None
    # The first engine's rate over this one's, of the same round; None for the first engine.
    prompt_ratio: Spread | None = None
    decode_ratio: Spread | None = None
    peak_rss_bytes: int = 0
    failure: str | None = None  # reason for missing figures


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All engines on one case."""

    machine: Machine
    case: Case
    rounds: int
    results: list[Result]
    bandwidth_gb_per_s: float  # measured with the same threads
    decode_limit: float | None  # tokens per second at that bandwidth


def compare(
    engines: Sequence[Engine],
    case: Case,
    rounds: int,
    progress: Callable[[int, str], None] = lambda turn, name: None,
) -> Comparison:
    """Runs one trial of each engine per round, with a different engine first in each round.

    `progress` is called before each trial. An engine that fails gets no further trials; if the first engine
    fails, BinhdanError is raised.
    """
    if rounds < 1:
        raise binhdan.InvalidArgumentError(f"rounds: expected at least 1, got {rounds}")
    trials: list[list[Trial]] = [[] for _ in engines]
    failures: dict[int, str] = {}
    for turn in range(rounds):
        for position in range(len(engines)):
            index = (turn + position) % len(engines)
            if index in failures:
                continue
            progress(turn, engines[index].name)
            try:
                trials[index].append(engines[index].run(case))
            except EngineError as error:
                if index == 0:
                    raise binhdan.BinhdanError(str(error)) from error
                failures[index] = str(error)
    results = [
        _result(engine.name, trials[i], trials[0] if i else None, failures.get(i))
        for i, engine in enumerate(engines)
    ]
    # Measured last: on Linux a child's peak memory includes the memory of this process.
    bandwidth = library().measure_bandwidth(case.threads)
    return Comparison(
        machine=this_machine(),
        case=case,
        rounds=rounds,
        results=results,
        bandwidth_gb_per_s=bandwidth / 1e9,
        decode_limit=_decode_limit(case, bandwidth) if case.decode else None,
    )


def _decode_limit(case: Case, bandwidth: float) -> float:
    with binhdan.load(case.model, threads=case.threads) as model:
        read = bytes_of_step(model.info, case.depth + case.decode / 2, case.sequences)
    return case.sequences * bandwidth / read


def _result(name: str, trials: list[Trial], first: list[Trial] | None, failure: str | None) -> Result:
    if failure is not None:
        return Result(name=name, failure=failure)
    prompts, decodes = [one.prompt for one in trials], [one.decode for one in trials]
    return Result(
        name=name,
        version=trials[0].version,
        instruction_sets=trials[0].instruction_sets,
        prompt=_spread(prompts),
        decode=_spread(decodes),
        prompt_ratio=_spread(_ratios([one.prompt for one in first], prompts)) if first else None,
        decode_ratio=_spread(_ratios([one.decode for one in first], decodes)) if first else None,
        peak_rss_bytes=max(one.peak_rss_bytes for one in trials),
    )


def _ratios(ours: Sequence[float | None], theirs: Sequence[float | None]) -> list[float | None]:
    return [a / b if a and b else None for a, b in zip(ours, theirs, strict=True)]


def _spread(values: Sequence[float | None]) -> Spread | None:
    known = [value for value in values if value is not None]
    return Spread.of(known) if known else None
