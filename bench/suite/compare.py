"""Results of several boards or versions beside each other, ranked, with how sure the order is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import binhdan
from binhdan.bench.common import statistics
from binhdan.bench.common.statistics import Estimate
from binhdan.bench.suite.result import Cell, Result


@dataclass(frozen=True, slots=True)
class Ranked:
    """One result. Times are geometric means over the cells that all results have."""

    rank: int  # shared by results whose order is not sure
    result: Result
    answer_s: float
    first_token_s: float
    tokens_per_s: float
    vnd_per_1000: float | None
    joules: float | None
    # How many times as long an answer takes as with the first; its interval of 95 %.
    ratio: Estimate


@dataclass(frozen=True, slots=True)
class Ranking:
    """The fastest first."""

    cells: list[str]  # that all have, of closed arrivals: open ones come at rates of their own
    ranked: list[Ranked]


def compare(results: Sequence[Result]) -> Ranking:
    """Raises InvalidArgumentError for results that have no cell in common, or other texts in it."""
    if len(results) < 2:
        raise binhdan.InvalidArgumentError(f"expected at least two results, got {len(results)}")
    keys = common(results)
    if not keys:
        raise binhdan.InvalidArgumentError("these results have no cell in common")
    times = [rounds(result, keys) for result in results]
    order = sorted(range(len(results)), key=lambda i: _mean(times[i]))
    best, ranked = order[0], list[Ranked]()
    leader, rank = best, 1
    for place, i in enumerate(order):
        if i != leader and not _ratio(times[i], times[leader]).contains(1.0):
            leader, rank = i, place + 1
        cells = [cell for key in keys if (cell := results[i].cell(key)) is not None]
        ranked.append(
            Ranked(
                rank=rank,
                result=results[i],
                answer_s=_mean(times[i]),
                first_token_s=_over(cells, _first_token) or 0.0,
                tokens_per_s=_over(cells, lambda cell: cell.tokens_per_s) or 0.0,
                vnd_per_1000=_thousand(
                    _over(cells, lambda cell: cell.per_answer.vnd if cell.per_answer else None)
                ),
                joules=_over(cells, lambda cell: cell.per_answer.joules if cell.per_answer else None),
                ratio=Estimate(1, 1, 1) if i == best else _ratio(times[i], times[best]),
            )
        )
    return Ranking(keys, ranked)


def common(results: Sequence[Result]) -> list[str]:
    """Cells of closed arrivals, with answers in every round, that all results have with the same texts."""
    found = []
    for cell in results[0].cells:
        others = [result.cell(cell.key) for result in results]
        texts = {result.pins.workloads.get(cell.workload) for result in results}
        if cell.arrival.kind == "closed" and len(texts) == 1 and all(map(_is_whole, others)):
            found.append(cell.key)
    return found


def rounds(result: Result, keys: Sequence[str]) -> list[float]:
    """For each round the geometric mean over cells of the median seconds of an answer."""
    cells = [cell for key in keys if (cell := result.cell(key)) is not None]
    count = min(len(cell.rounds) for cell in cells)
    return [
        math.exp(
            math.fsum(math.log(max(median(cell.rounds[turn].end_to_end_s), 1e-9)) for cell in cells)
            / len(cells)
        )
        for turn in range(count)
    ]


def _is_whole(cell: Cell | None) -> bool:
    return cell is not None and bool(cell.rounds) and all(one.end_to_end_s for one in cell.rounds)


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> Estimate:
    return statistics.ratio(ours, theirs, paired=False)


def _mean(values: Sequence[float]) -> float:
    return math.exp(math.fsum(map(math.log, values)) / len(values))


def _over(cells: Sequence[Cell], read: Callable[[Cell], float | None]) -> float | None:
    """Geometric mean; None when a cell has no value."""
    values = [read(cell) for cell in cells]
    known = [value for value in values if value is not None and value > 0]
    return _mean(known) if len(known) == len(values) else None


def _first_token(cell: Cell) -> float | None:
    return cell.first_token_s.p50 if cell.first_token_s else None


def _thousand(value: float | None) -> float | None:
    return None if value is None else 1000 * value
