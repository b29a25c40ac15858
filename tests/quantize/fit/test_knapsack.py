"""The knapsack against every combination."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from binhdan.quantize.fit.knapsack import Option, solve


def damage(groups: Sequence[Sequence[Option]], chosen: Sequence[int]) -> float:
    return sum(group[i].damage for group, i in zip(groups, chosen, strict=True))


def size(groups: Sequence[Sequence[Option]], chosen: Sequence[int]) -> int:
    return sum(group[i].bytes for group, i in zip(groups, chosen, strict=True))


def brute_force(groups: Sequence[Sequence[Option]], budget: int) -> float:
    return min(
        damage(groups, chosen)
        for chosen in itertools.product(*(range(len(group)) for group in groups))
        if size(groups, chosen) <= budget
    )


def random_groups(rng: np.random.Generator, unit: int) -> list[list[Option]]:
    return [
        [Option(int(rng.integers(1, 30)) * unit, float(rng.exponential())) for _ in range(rng.integers(1, 5))]
        for _ in range(rng.integers(1, 7))
    ]


@pytest.mark.parametrize("seed", range(40))
def test_equals_the_best_of_all_combinations(seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = random_groups(rng, int(rng.integers(1, 1000)))
    low = sum(min(option.bytes for option in group) for group in groups)
    high = sum(max(option.bytes for option in group) for group in groups)
    for budget in {low, high, high + 5, *(int(b) for b in rng.integers(low, high + 1, 4))}:
        chosen = solve(groups, budget)
        assert size(groups, chosen) <= budget
        assert damage(groups, chosen) == pytest.approx(brute_force(groups, budget))


@pytest.mark.parametrize("seed", range(4))
def test_with_rounded_bytes_the_budget_holds_and_little_is_lost(seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = [
        [Option(int(n * bits), float(np.exp2(-2 * bits)) * float(n)) for bits in (2.25, 3.4, 4.5, 6.6, 8.5)]
        for n in rng.integers(100, 2000, 30)
    ]
    budget = int(4.2 * sum(group[0].bytes for group in groups) / 2.25)
    exact, rounded = solve(groups, budget, 1 << 20), solve(groups, budget, 2000)
    assert size(groups, rounded) <= budget
    assert damage(groups, rounded) <= 1.02 * damage(groups, exact)


def test_a_budget_below_the_smallest_choice_is_an_error() -> None:
    with pytest.raises(ValueError, match="expected at least 30 bytes, got 29"):
        solve([[Option(10, 1.0)], [Option(20, 1.0), Option(40, 0.5)]], 29)


def test_no_groups() -> None:
    assert solve([], 0) == []
