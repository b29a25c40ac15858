"""bench/suite/pairs.py: ratios and verdicts; real builds in turns."""

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
from binhdan.bench.suite import pairs
from binhdan.bench.suite.cases import Settings
from binhdan.bench.suite.pairs import Job, PairedCase, Pairs, Side
from binhdan.bench.suite.tables import pairs_table

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
    assert ratio.contains(1.05) and not ratio.contains(1.0) and bench_results.half_width(ratio) < 0.02


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


@pytest.mark.parametrize(
    ("python", "model", "message"),
    [("/nowhere/python", None, "cannot start"), (sys.executable, "nowhere.gguf", "nowhere.gguf")],
)
def test_builds_that_fail(python: str, model: str | None, message: str) -> None:
    job = Job(model=model, threads=1, isa=None, settings=Settings(workloads=("short",), users=(1,)))
    with pytest.raises(binhdan.BinhdanError, match=message):
        pairs.measure(python, python, job)


def bench(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "binhdan", "bench", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=cwd)


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
