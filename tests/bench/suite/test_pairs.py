"""bench/suite: pairs.py, compare.py, history.py: ratios and verdicts; real builds in turns."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import bench_results
import pytest
from serving import serving

import binhdan
from binhdan.bench.micro import llama_cpp
from binhdan.bench.suite import history, pairs
from binhdan.bench.suite.cases import Settings
from binhdan.bench.suite.compare import compare
from binhdan.bench.suite.pairs import Job, PairedCase, Pairs, Side
from binhdan.bench.suite.quality import Agreement, GreedyAnswer, agreement
from binhdan.bench.suite.result import save_result
from binhdan.bench.suite.tables import history_table, pairs_table, ranking_table

SIDE = Side(
    source="python", engine="binhdan", engine_sha256="a" * 64, commit=None, model="m", model_sha256="b" * 64
)


def made(slower: float, noise: float = 0.01, rounds: int = 12, drift: float = 0.3) -> Pairs:
    """B takes `slower` times as long as A; a slow drift of the machine affects both."""
    chance = random.Random(5)
    cases = []
    for users in (1, 4):
        level = [0.1 * chance.lognormvariate(0, drift) for _ in range(rounds)]
        a = tuple(one * chance.lognormvariate(0, noise) for one in level)
        b = tuple(slower * one * chance.lognormvariate(0, noise) for one in level)
        cases.append(
            PairedCase(
                workload="short",
                users=users,
                prefix="cold",
                a={"end_to_end_s": a, "ttft_s": a},
                b={"end_to_end_s": b, "ttft_s": b},
            )
        )
    return Pairs(a=SIDE, b=SIDE, rounds=rounds, cases=tuple(cases))


def test_ratios_are_precise_although_the_machine_drifts() -> None:
    ratio = made(1.05).ratio()
    assert ratio.contains(1.05) and not ratio.contains(1.0) and ratio.half_width < 0.02


def test_aa_on_a_quiet_machine() -> None:
    assert pairs.verdict(made(1.0)) == []


@pytest.mark.parametrize(("slower", "noise", "words"), [(1.0, 0.3, "more than 3%"), (1.1, 0.01, "not 1")])
def test_aa_on_a_disturbed_machine(slower: float, noise: float, words: str) -> None:
    (finding, *_) = pairs.verdict(made(slower, noise))
    assert finding.kind == "noise" and words in finding.text


def test_a_gate_fails_only_when_the_best_is_worse_than_the_worst() -> None:
    assert pairs.regressions(made(1.3, drift=0.3)) == []  # certainly slower, but the trials overlap
    slower = pairs.regressions(made(1.3, drift=0.01))
    assert len(slower) == 4 and "short, 1 user, cold: answer" in slower[0] and "at worst before" in slower[0]
    assert pairs.regressions(made(0.5, drift=0.01)) == []


def test_table_of_pairs() -> None:
    text = pairs_table(made(1.05))
    assert "short, 4 users, cold" in text and "all" in text and "12 rounds in turns" in text


def test_two_real_builds_in_turns() -> None:
    settings = Settings(workloads=("diacritics",), users=(1,), prefixes=("cold",), open_load=0.0, rounds=2)
    job = Job(model=None, threads=1, isa=None, settings=settings)
    seen: list[str] = []
    measured = pairs.measure(
        sys.executable, sys.executable, job, lambda total: lambda turn, name: seen.append(f"{turn} {name}")
    )
    (case,) = measured.cases
    assert case.key == "diacritics, 1 user, cold" and len(case.a["end_to_end_s"]) == 2
    assert all(value > 0 for value in (*case.a["ttft_s"], *case.b["end_to_end_s"]))
    assert measured.a == measured.b and len(measured.a.engine_sha256) == 64
    assert seen == ["0 diacritics, 1 user, cold", "1 diacritics, 1 user, cold"]
    assert Pairs.model_validate_json(measured.model_dump_json()) == measured


def test_engines_get_equal_questions_and_their_answers_are_compared() -> None:
    settings = Settings(workloads=("short",), users=(1, 2), prefixes=("cold",), open_load=0.0, rounds=1)
    job = Job(model=None, threads=1, isa=None, settings=settings, answers=2)
    with serving() as url:
        measured = pairs.measure(sys.executable, url, job)
    assert measured.b.engine == "OpenAI's API" and measured.b.source == url
    found = measured.agreement
    assert found and (found.answers, found.same) == (4, 4)
    assert 0 < found.right_a == found.right_b <= found.syllables
    text = pairs_table(measured)
    assert "greedy answers: 4 of 4 are equal" in text and "NOT KNOWN TO BE THE SAME MODEL FILE" in text


@pytest.mark.skipif(not llama_cpp.installed(), reason="llama-cpp-python is not installed")
def test_llama_cpp_python_gets_the_same_prompts() -> None:
    settings = Settings(workloads=("diacritics",), users=(1,), prefixes=("cold",), open_load=0.0, rounds=1)
    job = Job(model=None, threads=1, isa=None, settings=settings, answers=2)
    measured = pairs.measure("llama-cpp-python", sys.executable, job)
    assert measured.a.engine.startswith("llama-cpp-python ")
    assert measured.a.model_sha256 == measured.b.model_sha256
    assert measured.agreement and measured.agreement.answers == 4 and measured.agreement.same >= 2


def test_worse_answers_are_counted() -> None:
    right = GreedyAnswer(answer="hà nội", expected="hà nội")
    worse = GreedyAnswer(answer="ha nội", expected="hà nội")
    other = GreedyAnswer(answer="a", expected=None)
    found = agreement([right, other], [worse, other])
    assert found == Agreement(answers=2, same=1, syllables=2, right_a=2, right_b=1)


@pytest.mark.parametrize(
    ("python", "model", "message"),
    [("/nowhere/python", None, "cannot start"), (sys.executable, "nowhere.gguf", "nowhere.gguf")],
)
def test_builds_that_fail(python: str, model: str | None, message: str) -> None:
    job = Job(model=model, threads=1, isa=None, settings=Settings(workloads=("short",), users=(1,)))
    with pytest.raises(binhdan.BinhdanError, match=message):
        pairs.measure(python, python, job)


# ---- compare -------------------------------------------------------------------------------------------


def test_the_faster_result_is_first_with_a_precise_ratio() -> None:
    slow, fast = bench_results.make("slow", 0.2, seed=1), bench_results.make("fast", 0.1, seed=2)
    ranking = compare([slow, fast])
    first, second = ranking.ranked
    assert (first.result.name, first.rank, second.result.name, second.rank) == ("fast", 1, "slow", 2)
    assert second.ratio.contains(2.0) and second.ratio.half_width < 0.05
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
        update={"pins": a.pins.model_copy(update={"workloads": {"short": "0", "chats": "0"}})}
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


# ---- history -------------------------------------------------------------------------------------------


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


# ---- commands ------------------------------------------------------------------------------------------


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


@pytest.mark.slow
def test_commands_on_builds(tmp_path: Path) -> None:
    small = ["--workload", "diacritics", "--users", "1", "--rounds", "2", "--threads", "1"]
    done = bench("gate", sys.executable, *small, "--json", cwd=tmp_path)
    assert done.returncode in (0, 1), done.stderr  # two rounds on a shared machine may show any ratio
    fields = json.loads(done.stdout)
    assert fields["rounds"] == 2 and fields["a"] == fields["b"]
    assert (done.returncode == 1) == ("SLOWER" in done.stderr)
    done = bench("aa", *small, cwd=tmp_path)
    assert "2 rounds in turns" in done.stdout and (done.returncode == 1) == ("DISTURBED" in done.stderr)
