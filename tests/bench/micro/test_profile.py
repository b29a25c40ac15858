"""bench/micro/profile.py: the operations add up to the pass, and shares follow from the limits."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import binhdan
from binhdan import _native
from binhdan.bench.micro import profile
from binhdan.bench.micro.case import Case
from binhdan.runtime.client.model import embedded_model

LIMITS = profile.Limits(gb_per_s=10.0, gops=100.0)


@pytest.fixture(scope="module")
def result() -> profile.Profile:
    return profile.profile(Case(model=embedded_model(), threads=1, prompt=32, decode=8, depth=64))


def test_operations_add_up_to_the_pass(result: profile.Profile) -> None:
    for measured in (result.prompt, result.decode):
        assert measured
        names = [operation.name for operation in measured.operations]
        assert {"qkv", "attention", "down", "logits"} <= set(names) and len(names) == len(set(names))
        assert sum(operation.ms for operation in measured.operations) == pytest.approx(measured.ms, rel=0.05)


def test_one_step_reads_every_weight_once(result: profile.Profile) -> None:
    with binhdan.load(threads=1) as model:
        info = model.info
    assert result.decode
    read = sum(op.gb_per_s * op.ms * 1e6 for op in result.decode.operations if op.name != "attention")
    assert read == pytest.approx(info.bytes_per_token, rel=0.01)


def test_attention_reads_the_bytes_of_the_kv_type(result: profile.Profile) -> None:
    narrow = profile.profile(result.case, kv_type="q8_0")
    read = []
    for one in (result, narrow):
        assert one.decode
        read.append(sum(op.gb_per_s * op.ms for op in one.decode.operations if op.name == "attention"))
    assert read[1] == pytest.approx(read[0] * 34 / 64)


@pytest.mark.parametrize(
    ("gigabytes", "giga_operations", "ms"), [(1.0, 1.0, 100.0), (0.1, 50.0, 500.0), (0.0, 0.0, 0.0)]
)
def test_the_slower_limit_counts(gigabytes: float, giga_operations: float, ms: float) -> None:
    assert LIMITS.min_ms(gigabytes, giga_operations) == pytest.approx(ms)


def test_a_table_without_a_peak_has_one_limit() -> None:
    assert profile.Limits(gb_per_s=10.0, gops=0.0).min_ms(1.0, 1e9) == pytest.approx(100.0)


def test_peaks_belong_to_formats_of_activations() -> None:
    assert _native.peaks("scalar", 1) == {}
    for isa in _native.isas()[1:]:
        peaks = _native.peaks(isa, 1)
        assert peaks and peaks.keys() <= {"f32", "q8", "bf16"} and all(rate > 1e6 for rate in peaks.values())


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "binhdan", "bench", "profile", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_command_table() -> None:
    done = run("--prompt", "16", "--decode", "2", "--threads", "1", "--sequences", "2", "--isa", "scalar")
    assert done.returncode == 0, done.stderr
    assert "prompt of 16" in done.stdout and "one step of 2 sequences" in done.stdout
    assert "kernels scalar" in done.stdout and "of the limit" in done.stdout


def test_command_json() -> None:
    options = ("--threads", "1", "--depth", "8", "--kv-type", "q8_0")
    done = run("--prompt", "0", "--decode", "2", *options, "--json")
    assert done.returncode == 0, done.stderr
    fields = json.loads(done.stdout)
    assert fields["prompt"] is None and fields["decode"]["ms"] > 0 and fields["case"]["depth"] == 8
    assert fields["kv_type"] == "q8_0"


def test_command_with_unknown_kernels() -> None:
    done = run("--isa", "nowhere")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "nowhere" in done.stderr
