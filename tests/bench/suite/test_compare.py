"""bench/suite/compare.py: ranks of results, common cases; the commands on results."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import bench_results
import pytest

import binhdan
from binhdan.bench.suite.compare import compare
from binhdan.bench.suite.result import save_result
from binhdan.bench.suite.tables import ranking_table


def test_the_faster_result_is_first_with_a_precise_ratio() -> None:
    slow, fast = bench_results.make("slow", 0.2, seed=1), bench_results.make("fast", 0.1, seed=2)
    ranking = compare([slow, fast])
    first, second = ranking.ranked
    assert (first.result.name, first.rank, second.result.name, second.rank) == ("fast", 1, "slow", 2)
    assert second.ratio.contains(2.0) and bench_results.half_width(second.ratio) < 0.05
    assert second.vnd_per_1000 == pytest.approx(2 * (first.vnd_per_1000 or 0), rel=0.05)
    assert len(ranking.cases) == 10 and not [key for key in ranking.cases if "open" in key]


def test_equals_share_a_rank() -> None:
    results = [bench_results.make(f"{i}", 0.1, noise=0.1, seed=i) for i in range(2)]
    results.append(bench_results.make("slow", 0.5, seed=7))
    assert [one.rank for one in compare(results).ranked] == [1, 1, 3]


def test_only_common_cases_with_equal_texts_are_compared() -> None:
    a = bench_results.make("a", workloads=("short", "chats"))
    b = bench_results.make("b", workloads=("short",), users=(1, 2))
    assert compare([a, b]).cases == ["short, 1 user, cold"]
    other = a.model_copy(
        update={"identity": a.identity.model_copy(update={"workloads": {"short": "0", "chats": "0"}})}
    )
    with pytest.raises(binhdan.InvalidArgumentError, match="no case in common"):
        compare([a, other])
    with pytest.raises(binhdan.InvalidArgumentError, match="at least two"):
        compare([a])


def test_table_of_a_ranking() -> None:
    text = ranking_table(
        compare([bench_results.make("chậm", 0.2, steal=0.5), bench_results.make("nhanh", 0.1)])
    )
    assert text.index("1. nhanh") < text.index("2. chậm") and "disturbed" in text and "J / answer" in text
    without = ranking_table(compare([bench_results.make("a", energy=False), bench_results.make("b")]))
    assert "disturbed" not in without


def bench(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "binhdan", "bench", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=cwd)


def test_commands_on_results(tmp_path: Path) -> None:
    save_result(bench_results.make("a", 0.1), tmp_path / "a.json")
    save_result(bench_results.make("b", 0.2), tmp_path / "b.json")
    done = bench("compare", "a.json", "b.json", cwd=tmp_path)
    assert done.returncode == 0 and "2. b" in done.stdout, done.stderr
    done = bench("history", "a.json", "--file", "h.jsonl", cwd=tmp_path)
    assert done.returncode == 0 and "2026-03-04 07:00" in done.stdout, done.stderr
    assert len((tmp_path / "h.jsonl").read_text().splitlines()) == 1
    done = bench("compare", "a.json", "nowhere.json", cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "nowhere.json" in done.stderr
