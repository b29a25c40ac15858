"""bench/micro/hot_paths.py: the suite runs, and two builds are compared in turns."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

import binhdan
from binhdan import _native
from binhdan.bench.micro import hot_paths, hot_paths_suite
from binhdan.bench.micro.hot_paths import HotPath
from binhdan.bench.micro.tables import hot_paths_table


def path(seconds: tuple[float, ...], old: tuple[float, ...] = (), gate: bool = True) -> HotPath:
    return HotPath(name="tokenize", unit="a text", gate=gate, seconds=seconds, old=old)


def test_only_a_best_that_is_worse_than_the_worst_is_slower() -> None:
    assert path((2.0, 3.0), (1.0, 1.5)).slower
    assert not path((1.4, 3.0), (1.0, 1.5)).slower
    assert not path((1.0,)).slower and path((1.0,)).ratio is None
    assert path((2.0, 3.0), (1.0, 1.5)).ratio == 2.0


def test_table() -> None:
    text = hot_paths_table([path((2e-6, 3e-6), (1e-6, 1.5e-6), gate=False)])
    assert "SLOWER" in text and "2.00" in text and "(informational)" in text
    assert "times" not in hot_paths_table([path((1e-6,))])


def test_this_build_against_itself() -> None:
    calls: list[str] = []
    paths = hot_paths.measure(
        "tokenize", 0.005, 2, sys.executable, lambda turn, name: calls.append(f"{turn} {name}")
    )
    assert {one.name for one in paths} == {"tokenize", "detokenize"}
    assert all(len(one.seconds) == len(one.old) == 2 and one.gate and min(one.seconds) > 0 for one in paths)
    assert calls == ["0 this build", "0 the other build", "1 the other build", "1 this build"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"select": "nowhere"}, "fits 'nowhere'"),
        ({"rounds": 0}, "at least 1"),
        ({"against": "/no/python"}, "start"),
    ],
)
def test_wrong_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(binhdan.BinhdanError, match=message):
        hot_paths.measure(**({"select": "greedy", "seconds": 0.001} | arguments))  # type: ignore[arg-type]


def test_only_an_older_build_may_lack_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hot_paths_suite.THIS_BUILD
    monkeypatch.setitem(sys.modules, "binhdan.bench.load.servers", None)  # the import fails
    with pytest.raises(ModuleNotFoundError):
        hot_paths_suite.servers_module()
    monkeypatch.setattr(hot_paths_suite, "THIS_BUILD", False)
    with pytest.raises(pytest.skip.Exception):
        hot_paths_suite.servers_module()


@pytest.mark.slow
def test_command() -> None:
    command = [sys.executable, "-m", "binhdan", "bench", "hot-paths", "--seconds", "0.01", "--rounds", "1"]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = {one["name"]: one["gate"] for one in json.loads(done.stdout)}
    assert {"tokenize", "sampler[greedy]", "matmul[Q4_0-decode]", "one_token", "http_alive"} <= found.keys()
    assert found["sampler[top-p]"] and not found["http_one_token"]


def test_the_sampler_alone() -> None:
    logits = np.array([0.0, 3.0, 1.0, -np.inf], np.float32)
    assert _native.sample(logits) == 1
    assert {_native.sample(logits, temperature=5.0, seed=seed) for seed in range(64)} == {0, 1, 2}
    assert {_native.sample(logits, temperature=5.0, top_k=1, seed=seed) for seed in range(8)} == {1}
    with pytest.raises(ValueError, match="temperature"):
        _native.sample(logits, temperature=-1.0)
    with pytest.raises(ValueError, match="logits"):
        _native.sample(np.zeros((2, 2), np.float32))
