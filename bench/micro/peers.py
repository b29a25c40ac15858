"""This engine beside others: the same file, threads and sizes, in turns, so that what disturbs the machine
disturbs all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import binhdan
from binhdan.bench.common.machine import Machine, this_machine
from binhdan.bench.common.statistics import Spread
from binhdan.bench.micro.case import Workload, bytes_of_step
from binhdan.bench.micro.engines import Engine, EngineError, Run
from binhdan.runtime.ffi import library


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One engine over all rounds. Rates are tokens per second, of all sequences together."""

    name: str
    version: str = ""
    instruction_sets: str = ""  # as the engine names them; "" when it does not
    prompt: Spread | None = None
    decode: Spread | None = None
    # The first engine's rate over this one's, round by round; None for the first.
    prompt_ratio: Spread | None = None
    decode_ratio: Spread | None = None
    peak_rss_bytes: int = 0
    failure: str | None = None  # why there are no figures


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All engines on one workload."""

    machine: Machine
    workload: Workload
    rounds: int
    results: list[Result]
    bandwidth_gb_per_s: float  # read from memory by as many threads
    decode_limit: float | None  # tokens per second at that bandwidth


def compare(
    engines: Sequence[Engine],
    workload: Workload,
    rounds: int,
    progress: Callable[[int, str], None] = lambda turn, name: None,
) -> Comparison:
    """Runs the engines in turns, and another one first in each round. The first of `engines` must not fail,
    others are left out once they do; `progress` hears of each run before it.

    Raises BinhdanError with the first engine's message.
    """
    if rounds < 1:
        raise binhdan.InvalidArgumentError(f"rounds: expected at least 1, got {rounds}")
    runs: list[list[Run]] = [[] for _ in engines]
    failures: dict[int, str] = {}
    for turn in range(rounds):
        for place in range(len(engines)):
            index = (turn + place) % len(engines)
            if index in failures:
                continue
            progress(turn, engines[index].name)
            try:
                runs[index].append(engines[index].run(workload))
            except EngineError as error:
                if index == 0:
                    raise binhdan.BinhdanError(str(error)) from error
                failures[index] = str(error)
    results = [
        _result(engine.name, runs[i], runs[0] if i else None, failures.get(i))
        for i, engine in enumerate(engines)
    ]
    # Measured last: what this process holds, Linux counts into its children's peaks.
    bandwidth = library().measure_bandwidth(workload.threads)
    return Comparison(
        machine=this_machine(),
        workload=workload,
        rounds=rounds,
        results=results,
        bandwidth_gb_per_s=bandwidth / 1e9,
        decode_limit=_decode_limit(workload, bandwidth) if workload.decode else None,
    )


def _decode_limit(workload: Workload, bandwidth: float) -> float:
    with binhdan.load(workload.model, threads=workload.threads) as model:
        read = bytes_of_step(model.info, workload.depth + workload.decode / 2, workload.sequences)
    return workload.sequences * bandwidth / read


def _result(name: str, runs: list[Run], first: list[Run] | None, failure: str | None) -> Result:
    if failure is not None:
        return Result(name=name, failure=failure)
    prompts, decodes = [run.prompt for run in runs], [run.decode for run in runs]
    return Result(
        name=name,
        version=runs[0].version,
        instruction_sets=runs[0].instruction_sets,
        prompt=_spread(prompts),
        decode=_spread(decodes),
        prompt_ratio=_spread(_ratios([run.prompt for run in first], prompts)) if first else None,
        decode_ratio=_spread(_ratios([run.decode for run in first], decodes)) if first else None,
        peak_rss_bytes=max(run.peak_rss_bytes for run in runs),
    )


def _ratios(ours: Sequence[float | None], theirs: Sequence[float | None]) -> list[float | None]:
    return [a / b if a and b else None for a, b in zip(ours, theirs, strict=True)]


def _spread(values: Sequence[float | None]) -> Spread | None:
    known = [value for value in values if value is not None]
    return Spread.of(known) if known else None
