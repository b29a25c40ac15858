"""Samples to figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from binhdan.bench.common import statistics
from binhdan.bench.suite.result import Arrival, Cell, Prefix, Round, Spent, Tail
from binhdan.bench.suite.targets import Sample
from binhdan.runtime.energy import Energy

# Microseconds: what comes after is noise, and would make files three times as long.
_DIGITS = 6


class CostOf(Protocol):
    """As CostModel.answer: đồng and dollars of an answer that took so long, and so many joules."""

    def __call__(self, seconds_busy: float, joules: float | None = None) -> tuple[float, float]: ...


def round_of(samples: Sequence[Sample], seconds: float, energy: Energy | None) -> Round:
    whole = [sample for sample in samples if sample.error is None]

    def times(read: Callable[[Sample], float], of: Sequence[Sample]) -> tuple[float, ...]:
        return tuple(round(max(read(sample), 0.0), _DIGITS) for sample in of)

    return Round(
        seconds=round(max(seconds, 0.0), _DIGITS),
        first_token_s=times(lambda sample: sample.first_token_s, whole),
        per_token_s=times(lambda sample: sample.per_token_s, [one for one in whole if one.tokens > 1]),
        end_to_end_s=times(lambda sample: sample.end_to_end_s, whole),
        failures=len(samples) - len(whole),
        prompt_tokens=sum(sample.prompt_tokens for sample in whole),
        cached_tokens=sum(sample.cached_tokens for sample in whole),
        answer_tokens=sum(sample.tokens for sample in whole),
        characters=sum(sample.characters for sample in whole),
        joules=energy.joules if energy else None,
        joules_above_idle=energy.above_idle if energy else None,
    )


def cell_of(
    workload: str,
    arrival: Arrival,
    prefix: Prefix,
    rounds: Sequence[Round],
    cost_of: CostOf | None = None,
    seed: int = 0,
) -> Cell:
    """`cost_of` None: no cost."""
    seconds = sum(one.seconds for one in rounds)
    answers = sum(len(one.end_to_end_s) for one in rounds)
    tokens = sum(one.answer_tokens for one in rounds)
    characters = sum(one.characters for one in rounds)
    spent = [_spent(rounds, count, cost_of) for count in (tokens, characters / 1000, answers)]
    if arrival.kind == "open":
        spent = [None, None, None]
    return Cell(
        workload=workload,
        arrival=arrival,
        prefix=prefix,
        rounds=tuple(rounds),
        first_token_s=_tail([one.first_token_s for one in rounds], seed),
        per_token_s=_tail([one.per_token_s for one in rounds], seed),
        end_to_end_s=_tail([one.end_to_end_s for one in rounds], seed),
        tokens_per_s=tokens / seconds if seconds else 0.0,
        answers_per_min=60 * answers / seconds if seconds else 0.0,
        failures=sum(one.failures for one in rounds),
        per_token=spent[0],
        per_1000_characters=spent[1],
        per_answer=spent[2],
    )


def _tail(rounds: Sequence[Sequence[float]], seed: int) -> Tail | None:
    values = [value for one in rounds for value in one]
    if not values:
        return None
    median = statistics.quantile(rounds, 0.5, seed=seed)
    return Tail(
        p50=median.value,
        p95=statistics.percentile(values, 0.95),
        p99=statistics.percentile(values, 0.99),
        low=median.low,
        high=median.high,
    )


def _spent(rounds: Sequence[Round], count: float, cost_of: CostOf | None) -> Spent | None:
    """What each of `count` took. With many users the machine works on several at once: their shares."""
    if not count:
        return None
    seconds = sum(one.seconds for one in rounds) / count
    joules = _sum([one.joules for one in rounds], count)
    above = _sum([one.joules_above_idle for one in rounds], count)
    vnd, usd = cost_of(seconds, joules) if cost_of else (None, None)
    return Spent(seconds=seconds, joules=joules, joules_above_idle=above, vnd=vnd, usd=usd)


def _sum(values: Sequence[float | None], count: float) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / count if len(known) == len(values) else None
