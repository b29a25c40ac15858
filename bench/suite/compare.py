"""Ranks results of several boards or versions by answer time, with 95 % intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import binhdan
from binhdan.bench.common import statistics
from binhdan.bench.common.statistics import Estimate, geometric_mean
from binhdan.bench.suite.result import CaseResult, Result


@dataclass(frozen=True, slots=True)
class Ranked:
    """One result. Times are geometric means over the common cases."""

    rank: int  # results whose order is not significant share a rank
    result: Result
    answer_s: float
    ttft_s: float
    tokens_per_s: float
    vnd_per_1000: float | None
    joules: float | None
    ratio: Estimate  # answer time over that of the first result


@dataclass(frozen=True, slots=True)
class Ranking:
    """The fastest first."""

    cases: list[str]  # keys of the common cases
    ranked: list[Ranked]


def compare(results: Sequence[Result]) -> Ranking:
    """Raises InvalidArgumentError for fewer than two results, and for results without a common case."""
    if len(results) < 2:
        raise binhdan.InvalidArgumentError(f"expected at least two results, got {len(results)}")
    keys = common_cases(results)
    if not keys:
        raise binhdan.InvalidArgumentError(
            "these results have no case in common: expected at least one with the same workload text, users "
            "and prefix, and complete answers in every trial"
        )
    times = [round_times(result, keys) for result in results]
    order = sorted(range(len(results)), key=lambda i: geometric_mean(times[i]))
    best, ranked = order[0], list[Ranked]()
    leader, rank = best, 1
    for position, i in enumerate(order):
        if i != leader and not _ratio(times[i], times[leader]).contains(1.0):
            leader, rank = i, position + 1
        cases = [case for key in keys if (case := results[i].case(key)) is not None]
        ranked.append(
            Ranked(
                rank=rank,
                result=results[i],
                answer_s=geometric_mean(times[i]),
                ttft_s=_mean_over(cases, _ttft) or 0.0,
                tokens_per_s=_mean_over(cases, lambda case: case.tokens_per_s) or 0.0,
                vnd_per_1000=_per_1000(
                    _mean_over(cases, lambda case: case.per_answer.vnd if case.per_answer else None)
                ),
                joules=_mean_over(cases, lambda case: case.per_answer.joules if case.per_answer else None),
                ratio=Estimate(1, 1, 1) if i == best else _ratio(times[i], times[best]),
            )
        )
    return Ranking(keys, ranked)


def common_cases(results: Sequence[Result]) -> list[str]:
    """Keys of the cases that all results have with the same texts and complete answers in every trial. Only
    closed arrivals: the rates of open ones depend on the machine."""
    found = []
    for case in results[0].cases:
        others = [result.case(case.key) for result in results]
        texts = {result.identity.workloads.get(case.workload) for result in results}
        if case.arrival.kind == "closed" and len(texts) == 1 and all(map(_is_complete, others)):
            found.append(case.key)
    return found


def round_times(result: Result, keys: Sequence[str]) -> list[float]:
    """For each round the geometric mean over the cases of the median answer time, in seconds."""
    cases = [case for key in keys if (case := result.case(key)) is not None]
    count = min(len(case.trials) for case in cases)
    return [
        geometric_mean([max(median(case.trials[round_].end_to_end_s), 1e-9) for case in cases])
        for round_ in range(count)
    ]


def _is_complete(case: CaseResult | None) -> bool:
    return case is not None and bool(case.trials) and all(trial.end_to_end_s for trial in case.trials)


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> Estimate:
    return statistics.ratio(ours, theirs, paired=False)


def _mean_over(cases: Sequence[CaseResult], read: Callable[[CaseResult], float | None]) -> float | None:
    """Geometric mean over the cases; None when a case has no value."""
    values = [read(case) for case in cases]
    known = [value for value in values if value is not None and value > 0]
    return geometric_mean(known) if len(known) == len(values) else None


def _ttft(case: CaseResult) -> float | None:
    return case.ttft_s.p50 if case.ttft_s else None


def _per_1000(value: float | None) -> float | None:
    return None if value is None else 1000 * value
