"""bench/suite/result.py: a saved result loads again; other versions and damaged files raise errors."""

from __future__ import annotations

import json
from pathlib import Path

import bench_results
import pytest

import binhdan
from binhdan.bench.suite.result import SCHEMA_VERSION, load_result, save_result


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "a.json"
    save_result(bench_results.make(), path)
    return path


def test_round_trip(written: Path) -> None:
    assert load_result(written) == bench_results.make()


def test_figures_of_a_case_follow_from_its_trials() -> None:
    case = bench_results.make(seconds=0.1, noise=0.0).cases[0]
    assert case.key == "short, 1 user, cold"
    assert case.end_to_end_s and case.end_to_end_s.p50 == pytest.approx(0.1)
    assert case.end_to_end_s.low == case.end_to_end_s.high == pytest.approx(0.1)
    # 10 trials of 4 answers, one after the other: 0.1 s, 40 tokens and 150 characters each.
    assert case.tokens_per_s == pytest.approx(400) and case.answers_per_min == pytest.approx(600)
    assert case.per_answer and case.per_token and case.per_1000_characters
    assert case.per_answer.seconds == pytest.approx(0.1)
    assert case.per_token.seconds == pytest.approx(0.1 / 40)
    assert case.per_1000_characters.seconds == pytest.approx(0.1 / 0.150)
    assert case.per_answer.joules == pytest.approx(3) and case.per_answer.joules_above_idle == pytest.approx(
        2
    )
    assert case.per_answer.vnd == pytest.approx(0.5)


def test_open_arrivals_have_no_cost_of_an_answer() -> None:
    (case, *_) = [case for case in bench_results.make().cases if case.arrival.kind == "open"]
    assert case.per_answer is None and case.per_token is None and case.end_to_end_s is not None


@pytest.mark.parametrize("version", [0, SCHEMA_VERSION + 1, "1", None, 1.5, [1] * 100])
def test_other_versions_raise(written: Path, version: object) -> None:
    fields = json.loads(written.read_text()) | {"schema_version": version}
    written.write_text(json.dumps(fields))
    with pytest.raises(binhdan.UnsupportedError, match="this binhdan reads 2") as caught:
        load_result(written)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[]", "no schema_version"),
        ('{"tokens": 3}', "no schema_version"),
        ('{"schema_version": 2}', "name"),
    ],
)
def test_other_contents_raise(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(binhdan.BadFormatError, match=message):
        load_result(path)


@pytest.mark.parametrize(("key", "value"), [("name", 3), ("cases", [{}]), ("unknown", 1)])
def test_errors_name_the_field(written: Path, key: str, value: object) -> None:
    written.write_text(json.dumps(json.loads(written.read_text()) | {key: value}))
    with pytest.raises(binhdan.BadFormatError, match=key):
        load_result(written)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(binhdan.FileReadError, match="no such file"):
        load_result(tmp_path / "nowhere.json")
    with pytest.raises(binhdan.FileReadError):
        save_result(bench_results.make(), tmp_path / "nowhere" / "a.json")
