"""bench/suite/cases.py: all cases, their order, and those that fit into a time budget."""

from __future__ import annotations

from dataclasses import replace

import pytest

import binhdan
from binhdan.bench.suite.cases import Settings, all_cases, fitting

SMALL = Settings(workloads=("short",), users=(1, 2), rounds=2, budget_seconds=None)


def test_every_case_once_and_the_important_ones_first() -> None:
    found = all_cases(Settings(), ["chats", "documents", "tools"])
    assert len(found) == len(set(found)) == (6 + 3) * 6
    assert (
        {case.arrival.label for case in found[:9]} == {"1 user"} == {case.arrival.label for case in found[:9]}
    )
    assert [case.prefix for case in found[:9]] == ["cold"] * 6 + ["warm"] * 3
    labels = list(dict.fromkeys(case.arrival.label for case in found))
    assert labels == ["1 user", "16 users", "open", "8 users", "4 users", "2 users"]
    assert not [case for case in found if case.prefix == "warm" and case.workload in ("short", "mixed")]


def test_cases_that_do_not_fit_are_left_out() -> None:
    wanted = all_cases(Settings(workloads=("short", "chats"), users=(1, 4), open_load=0), ["chats"])
    seconds = [1.0, 2.0, 3.0, 1.0, 1.0, 9.0]
    chosen, left = fitting(wanted, seconds, 10, 75.0)
    assert [seconds[wanted.index(case)] for case in chosen] == [1, 2, 3, 1]
    assert chosen + left == wanted
    assert fitting(wanted, seconds, 10, None) == (wanted, [])
    # One user, cold: always measured.
    assert fitting(wanted, seconds, 10, 0.0)[0] == wanted[:2]


@pytest.mark.parametrize(
    "changes",
    [
        {"users": (0,)},
        {"workloads": ()},
        {"open_load": 1.0},
        {"rounds": 0},
        {"warm_up_rounds": -1},
        {"budget_seconds": 0.0},
        {"prefixes": ()},
    ],
)
def test_settings_out_of_range(changes: dict[str, object]) -> None:
    with pytest.raises(binhdan.InvalidArgumentError, match="expected"):
        replace(SMALL, **changes)  # type: ignore[arg-type]
