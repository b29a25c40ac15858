"""bench/micro/peers.py and engines.py: all engines do the same work in turns; errors name the failure."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import binhdan
from binhdan import _native
from binhdan.bench.common.statistics import Spread
from binhdan.bench.micro import engines, llama_cpp, peers
from binhdan.bench.micro.case import Case
from binhdan.runtime.client.model import embedded_model

needs_llama_cpp = pytest.mark.skipif(not llama_cpp.installed(), reason="llama-cpp-python is not installed")


def case(**changes: int) -> Case:
    sizes = {"threads": 1, "prompt": 32, "decode": 4}
    return Case(model=embedded_model(), **sizes | changes)


class Scripted:
    """An engine with prepared rates. It records its calls."""

    def __init__(self, name: str, prompts: list[float | None], record: list[str]) -> None:
        self.name, self.prompts, self.record = name, prompts, record

    def run(self, case: Case) -> engines.Trial:
        self.record.append(self.name)
        if (prompt := self.prompts.pop(0)) is None:
            raise engines.EngineError("no luck")
        return engines.Trial(
            prompt=prompt, decode=None, version="1", instruction_sets="", peak_rss_bytes=len(self.prompts)
        )


def test_engines_take_turns_and_ratios_are_of_the_same_round() -> None:
    record: list[str] = []
    pair = [Scripted("a", [10.0, 30.0, 20.0], record), Scripted("b", [5.0, 10.0, 10.0], record)]
    steps: list[tuple[int, str]] = []
    result = peers.compare(pair, case(decode=0), 3, lambda turn, name: steps.append((turn, name)))
    assert record == ["a", "b", "b", "a", "a", "b"]
    assert steps == [(0, "a"), (0, "b"), (1, "b"), (1, "a"), (2, "a"), (2, "b")]
    ours, theirs = result.results
    assert ours.prompt == Spread(20.0, 10.0, 30.0) and ours.prompt_ratio is None
    assert theirs.prompt == Spread(10.0, 5.0, 10.0)
    assert theirs.prompt_ratio == Spread(2.0, 2.0, 3.0)
    assert theirs.decode is None and result.decode_limit is None
    assert ours.peak_rss_bytes == 2


def test_a_peer_that_fails_is_left_out_with_its_message() -> None:
    record: list[str] = []
    pair = [Scripted("a", [1.0] * 3, record), Scripted("b", [1.0, None], record)]
    result = peers.compare(pair, case(decode=0), 3)
    assert record.count("b") == 2
    assert result.results[1].failure == "no luck" and result.results[1].prompt is None


def test_our_own_failure_is_an_error() -> None:
    with pytest.raises(binhdan.BinhdanError, match="no luck"):
        peers.compare([Scripted("a", [None], [])], case(), 1)


def test_ours_runs_the_forced_kernels() -> None:
    run = engines.Binhdan("scalar").run(case(depth=8, sequences=2))
    assert run.instruction_sets == "scalar"
    assert run.prompt and run.decode and run.prompt > 0 and run.decode > 0
    assert run.peak_rss_bytes > embedded_model().stat().st_size


def test_ours_on_a_bad_file(tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"GGUF" + bytes(64))
    with pytest.raises(engines.EngineError, match=r"bad\.gguf"):
        engines.Binhdan().run(Case(model=bad, threads=1))


@needs_llama_cpp
def test_llama_cpp_python_runs_the_same_file() -> None:
    run = engines.LlamaCppPython().run(case(depth=8, sequences=2))
    assert run.prompt and run.decode and run.prompt > 0 and run.decode > 0
    assert run.version and "=" not in run.instruction_sets


@needs_llama_cpp
def test_llama_cpp_python_on_a_bad_file(tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"GGUF" + bytes(64))
    with pytest.raises(engines.EngineError, match="cannot load"):
        engines.LlamaCppPython().run(Case(model=bad, threads=1))


# ---- programs; scripts that print prepared output -----------------------------


def program(folder: Path, body: str) -> str:
    path = folder / "llama-bench"
    path.write_text(f"#!{sys.executable}\nimport json, sys\n{body}\n", "utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


ECHO = """
def value(option): return sys.argv[sys.argv.index(option) + 1]
print("warming up")
prompts = [int(n) for n in value("-p").split(",") if n != "0"]
entries = [{"n_prompt": n, "n_gen": 0, "avg_ns": n * 1000} for n in prompts]
if value("-n") != "0": entries.append({"n_prompt": 0, "n_gen": int(value("-n")), "avg_ns": 8000})
if "-gp" in sys.argv:
    depth, tokens = map(int, value("-gp").split(","))
    entries.append({"n_prompt": depth, "n_gen": tokens, "avg_ns": 16000})
"""


def test_llama_bench_with_a_depth(tmp_path: Path) -> None:
    path = program(
        tmp_path,
        f"if '--help' in sys.argv: sys.exit(print('-d, --n-depth'))\n{ECHO}\n"
        "assert value('-d') == '100'\nprint(json.dumps(entries, indent=1))",
    )
    (engine,) = engines.programs([f"theirs={path} -rtr 1"], [])
    assert engine == engines.LlamaBench("theirs", (path, "-rtr", "1"))
    run = engine.run(case(depth=100))
    assert run.prompt == pytest.approx(1e6) and run.decode == pytest.approx(4 / 8000e-9)


def test_llama_bench_without_depths_is_given_prompts(tmp_path: Path) -> None:
    path = program(
        tmp_path, f"if '--help' in sys.argv: sys.exit()\n{ECHO}\nprint(json.dumps(entries, indent=1))"
    )
    run = engines.LlamaBench("theirs", (path,)).run(case(depth=100))
    assert run.prompt == pytest.approx(32 / 32000e-9)  # 132 tokens less 100
    assert run.decode == pytest.approx(4 / 16000e-9)


def test_llama_batched_bench(tmp_path: Path) -> None:
    path = program(tmp_path, "print('log')\nprint(json.dumps({'speed_tg': 12.5, 'args': len(sys.argv)}))")
    run = engines.LlamaBench("theirs", batched=(path,)).run(case(sequences=4))
    assert run.prompt is None and run.decode == 12.5


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("print('no luck', file=sys.stderr); sys.exit(3)", "no luck"),
        ("sys.exit(3)", "exit code 3 and no error message"),
        ("import os; os.kill(os.getpid(), 11)", "signal 11"),
        ("print('nothing')", "holds no JSON"),
        ("print('[\\n{]')", "cannot read its output as JSON"),
        ("print('[\\n{}]')", "lacks"),
    ],
)
def test_a_program_that_fails(tmp_path: Path, body: str, message: str) -> None:
    with pytest.raises(engines.EngineError, match=message):
        engines.LlamaBench("theirs", (program(tmp_path, body),)).run(case())


def test_a_missing_program() -> None:
    with pytest.raises(engines.EngineError, match="cannot start /nowhere/llama-bench"):
        engines.LlamaBench("theirs", ("/nowhere/llama-bench",)).run(case())


@pytest.mark.parametrize("sequences", [1, 2])
def test_a_program_for_the_other_number_of_sequences(sequences: int) -> None:
    engine = (
        engines.LlamaBench("theirs", (), ("x",)) if sequences == 1 else engines.LlamaBench("theirs", ("x",))
    )
    with pytest.raises(engines.EngineError, match="--llama-"):
        engine.run(case(sequences=sequences))


@pytest.mark.parametrize("text", ["", "llama-bench", "=llama-bench", "label=", "label= "])
def test_programs_need_a_label_and_a_command(text: str) -> None:
    with pytest.raises(binhdan.InvalidArgumentError, match="LABEL=COMMAND"):
        engines.programs([text], [])


def test_programs_are_joined_by_label() -> None:
    assert engines.programs(["a=x", "b=y"], ["b=z"]) == [
        engines.LlamaBench("a", ("x",), ()),
        engines.LlamaBench("b", ("y",), ("z",)),
    ]


# ---- sizes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes", [{"threads": 0}, {"prompt": -1}, {"depth": -1}, {"sequences": 0}, {"prompt": 0, "decode": 0}]
)
def test_sizes_out_of_range(changes: dict[str, int]) -> None:
    with pytest.raises(binhdan.InvalidArgumentError, match="expected"):
        case(**changes)


def test_no_rounds() -> None:
    with pytest.raises(binhdan.InvalidArgumentError, match="rounds"):
        peers.compare([], case(), 0)


# ---- the command -------------------------------------------------------------------------------------------


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "binhdan", "bench", "peers", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


SMALL = ("--prompt", "16", "--decode", "2", "--rounds", "1", "--threads", "1", "--no-llama-cpp-python")


def test_command_table(tmp_path: Path) -> None:
    broken = program(tmp_path, "sys.exit('no luck')")
    done = run(*SMALL, "--isa", "scalar", "--llama-bench", f"theirs={broken}")
    assert done.returncode == 0, done.stderr
    assert "binhdan scalar" in done.stdout and "memory limit" in done.stdout
    assert "theirs: failed: no luck" in done.stdout


def test_command_json() -> None:
    done = run(*SMALL, "--isa", "scalar", "--isa", _native.isas()[-1], "--json")
    assert done.returncode == 0, done.stderr
    (comparison,) = json.loads(done.stdout)
    assert [result["instruction_sets"] for result in comparison["results"]] == ["scalar", _native.isas()[-1]]
    assert comparison["case"]["prompt"] == 16 and comparison["rounds"] == 1
    assert comparison["results"][1]["decode_ratio"]["median"] > 0


def test_command_on_a_bad_file(tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"no model")
    done = run(*SMALL, "-m", str(bad))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "bad.gguf" in done.stderr
