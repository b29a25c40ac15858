"""bench/suite/history.py: a line per run, series of comparable runs, damaged files."""

from __future__ import annotations

from pathlib import Path

import bench_results
import pytest

import binhdan
from binhdan.bench.suite import history
from binhdan.bench.suite.tables import history_table


def test_history_grows_by_a_line(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    for seconds in (0.1, 0.2):
        history.append(path, history.entry_of(bench_results.make(seconds=seconds)))
    first, second = history.read(path)
    assert first.commit == "e" * 40 and first.disturbed == () and first.series == second.series
    assert second.cases["short, 1 user, cold"].end_to_end_s.p50 == pytest.approx(0.2, rel=0.05)
    text = history_table([first, second], 20)
    assert text.count("2026-03-04 07:00") == 2 and history_table([], 20) == "no runs yet"


def test_runs_of_other_machines_are_another_series() -> None:
    here = history.entry_of(bench_results.make())
    there = here.model_copy(update={"processor": "Cortex-A76"})
    assert history.same_series([here, there, here], here) == [here, here]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense\n", "line 1: expected a JSON object, got no JSON"),
        ("{}\n", "line 1: schema_version"),
        ("{}", "cut off"),
    ],
)
def test_a_file_that_is_not_a_history_stays_unchanged(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text(text)
    with pytest.raises(binhdan.BadFormatError, match=message):
        history.append(path, history.entry_of(bench_results.make()))
    assert path.read_text() == text
