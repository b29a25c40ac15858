"""The multiple-choice knapsack: one option of each group, the least damage within a number of bytes.

Dynamic programming over the bytes. It is exact if the bytes have a common divisor that leaves at most
``MAX_STEPS`` steps, which the tensors of a model usually have. Otherwise bytes are rounded up to steps of
1/65,536 of the budget, and what that leaves is spent on the options that gain most.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

MAX_STEPS: Final = 1 << 16


@dataclass(frozen=True)
class Option:
    bytes: int
    damage: float


def solve(groups: Sequence[Sequence[Option]], budget: int, max_steps: int = MAX_STEPS) -> list[int]:
    """Returns the index of an option for each group. Raises ValueError if no choice fits in ``budget``."""
    floors = [min(option.bytes for option in group) for group in groups]
    left = budget - sum(floors)
    if left < 0:
        raise ValueError(f"budget: expected at least {sum(floors)} bytes, got {budget}")
    extra = [[option.bytes - floor for option in group] for group, floor in zip(groups, floors, strict=True)]
    left = min(left, sum(max(costs) for costs in extra))
    unit = math.gcd(*(cost for costs in extra for cost in costs)) or 1
    unit *= max(1, math.ceil(left / unit / max_steps))
    chosen = _by_steps([[-(-cost // unit) for cost in costs] for costs in extra], groups, left // unit)
    _spend(groups, chosen, budget)
    return chosen


def _by_steps(costs: list[list[int]], groups: Sequence[Sequence[Option]], steps: int) -> list[int]:
    """The best choice with costs in whole steps."""
    best = np.zeros(steps + 1)  # the least damage of the groups so far, within each number of steps
    taken: list[npt.NDArray[np.uint8]] = []
    for group, group_costs in zip(groups, costs, strict=True):
        least = np.full(steps + 1, np.inf)
        index = np.zeros(steps + 1, np.uint8)
        for i, (option, cost) in enumerate(zip(group, group_costs, strict=True)):
            if cost > steps:
                continue
            damage = best[: steps + 1 - cost] + option.damage
            better = damage < least[cost:]
            least[cost:][better] = damage[better]
            index[cost:][better] = i
        best = least
        taken.append(index)
    chosen = []
    at = steps
    for index, group_costs in zip(reversed(taken), reversed(costs), strict=True):
        chosen.append(int(index[at]))
        at -= group_costs[chosen[-1]]
    return chosen[::-1]


def _spend(groups: Sequence[Sequence[Option]], chosen: list[int], budget: int) -> None:
    """Changes ``chosen`` to better options while they fit in the budget: most damage per byte first."""
    left = budget - sum(group[i].bytes for group, i in zip(groups, chosen, strict=True))
    while True:
        gains = []
        for g, group in enumerate(groups):
            now = group[chosen[g]]
            for i, option in enumerate(group):
                gain, cost = now.damage - option.damage, option.bytes - now.bytes
                if gain > 0 and cost <= left:
                    gains.append((gain / max(cost, 1), g, i))
        if not gains:
            return
        _, g, i = max(gains)
        left -= groups[g][i].bytes - groups[g][chosen[g]].bytes
        chosen[g] = i
