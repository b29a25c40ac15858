"""From timed answers to trials, and from trials to the figures of a case."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from binhdan.bench.common import statistics
from binhdan.bench.suite.engines import TimedAnswer
from binhdan.bench.suite.result import Arrival, CaseResult, Percentiles, Prefix, ResourceUse, Trial
from binhdan.runtime.energy import Energy

# Microseconds: smaller digits are noise, and would triple the size of the files.
_DIGITS = 6


class CostOf(Protocol):
    """Same as CostModel.answer: (đồng, dollars) of an answer that used these seconds and joules."""

    def __call__(self, seconds_busy: float, joules: float | None = None) -> tuple[float, float]: ...


def trial_of(answers: Sequence[TimedAnswer], seconds: float, energy: Energy | None) -> Trial:
    complete = [answer for answer in answers if answer.error is None]

    def times(read: Callable[[TimedAnswer], float], of: Sequence[TimedAnswer]) -> tuple[float, ...]:
        return tuple(round(max(read(answer), 0.0), _DIGITS) for answer in of)

    return Trial(
        seconds=round(max(seconds, 0.0), _DIGITS),
        ttft_s=times(lambda answer: answer.ttft_s, complete),
        tpot_s=times(lambda answer: answer.tpot_s, [one for one in complete if one.tokens > 1]),
        end_to_end_s=times(lambda answer: answer.end_to_end_s, complete),
        failures=len(answers) - len(complete),
        prompt_tokens=sum(answer.prompt_tokens for answer in complete),
        cached_tokens=sum(answer.cached_tokens for answer in complete),
        answer_tokens=sum(answer.tokens for answer in complete),
        characters=sum(answer.characters for answer in complete),
        joules=energy.joules if energy else None,
        joules_above_idle=energy.above_idle if energy else None,
    )


def case_result(
    workload: str,
    arrival: Arrival,
    prefix: Prefix,
    trials: Sequence[Trial],
    cost_of: CostOf | None = None,
    seed: int = 0,
) -> CaseResult:
    """`cost_of` None: the result has no costs."""
    seconds = sum(trial.seconds for trial in trials)
    answers = sum(len(trial.end_to_end_s) for trial in trials)
    tokens = sum(trial.answer_tokens for trial in trials)
    characters = sum(trial.characters for trial in trials)
    uses = [_use(trials, count, cost_of) for count in (tokens, characters / 1000, answers)]
    if arrival.kind == "open":
        uses = [None, None, None]
    return CaseResult(
        workload=workload,
        arrival=arrival,
        prefix=prefix,
        trials=tuple(trials),
        ttft_s=_percentiles([trial.ttft_s for trial in trials], seed),
        tpot_s=_percentiles([trial.tpot_s for trial in trials], seed),
        end_to_end_s=_percentiles([trial.end_to_end_s for trial in trials], seed),
        tokens_per_s=tokens / seconds if seconds else 0.0,
        answers_per_min=60 * answers / seconds if seconds else 0.0,
        failures=sum(trial.failures for trial in trials),
        per_token=uses[0],
        per_1000_characters=uses[1],
        per_answer=uses[2],
    )


def _percentiles(trials: Sequence[Sequence[float]], seed: int) -> Percentiles | None:
    values = [value for trial in trials for value in trial]
    if not values:
        return None
    median = statistics.quantile(trials, 0.5, seed=seed)
    return Percentiles(
        p50=median.value,
        p95=statistics.percentile(values, 0.95),
        p99=statistics.percentile(values, 0.99),
        low=median.low,
        high=median.high,
    )


def _use(trials: Sequence[Trial], count: float, cost_of: CostOf | None) -> ResourceUse | None:
    """Resources of one of `count` items. Items that run at the same time share the machine's seconds."""
    if not count:
        return None
    seconds = sum(trial.seconds for trial in trials) / count
    joules = _mean([trial.joules for trial in trials], count)
    above = _mean([trial.joules_above_idle for trial in trials], count)
    vnd, usd = cost_of(seconds, joules) if cost_of else (None, None)
    return ResourceUse(seconds=seconds, joules=joules, joules_above_idle=above, vnd=vnd, usd=usd)


def _mean(values: Sequence[float | None], count: float) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / count if len(known) == len(values) else None
