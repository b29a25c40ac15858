"""bench/micro/speed.py: figures agree with each other; their size does not matter."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import binhdan
from binhdan.bench.micro import speed


@pytest.fixture(scope="module")
def result() -> speed.Speed:
    with binhdan.load(threads=1) as model:
        return speed.measure(model, prompt=96, decode=16, runs=2)


def test_rates_agree_with_each_other(result: speed.Speed) -> None:
    assert result.threads == 1 and result.runs == 2
    assert result.prompt_spread[0] <= result.prompt_tokens_per_s <= result.prompt_spread[1]
    assert result.decode_spread[0] <= result.decode_tokens_per_s <= result.decode_spread[1]
    # The first token comes after the whole prompt.
    assert result.ttft_ms >= 0.99e3 * 96 / result.prompt_spread[1]
    assert result.bandwidth_share == pytest.approx(result.gb_per_s / result.bandwidth_gb_per_s)


def test_decoding_reads_the_weights_and_the_keys_and_values(result: speed.Speed) -> None:
    with binhdan.load(threads=1) as model:
        info = model.info
    # Tied embeddings: one token reads all matrices, which are nearly the whole file.
    assert 0.85 * info.file_bytes < info.bytes_per_token < 1.01 * info.file_bytes
    read = result.gb_per_s * 1e9 / result.decode_tokens_per_s
    assert read == pytest.approx(info.bytes_per_token + info.kv_bytes_per_token * (96 + 7.5))


def test_peak_memory_is_this_process(result: speed.Speed) -> None:
    with binhdan.load(threads=1) as model:
        assert result.peak_rss_bytes > model.info.weight_bytes


@pytest.mark.parametrize(
    ("prompt", "decode", "runs", "message"),
    [
        (0, 8, 1, "expected at least 1 token of prompt"),
        (8, 1, 1, "expected at least 1 token of prompt"),
        (8, 8, 0, "expected at least 1 token of prompt"),
    ],
)
def test_sizes_out_of_range(prompt: int, decode: int, runs: int, message: str) -> None:
    with binhdan.load() as model, pytest.raises(binhdan.InvalidArgumentError, match=message):
        speed.measure(model, prompt=prompt, decode=decode, runs=runs)


def test_more_than_the_context() -> None:
    with (
        binhdan.load(context=64) as model,
        pytest.raises(binhdan.TooLargeError, match="need a context of 71"),
    ):
        speed.measure(model, prompt=64, decode=8, runs=1)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "binhdan", "bench", *arguments], capture_output=True, text=True, timeout=120
    )


def test_command_json() -> None:
    done = run("speed", "--prompt", "32", "--decode", "8", "--runs", "1", "--threads", "1", "--json")
    assert done.returncode == 0, done.stderr
    fields = json.loads(done.stdout)
    assert {
        "prompt_tokens_per_s",
        "decode_tokens_per_s",
        "ttft_ms",
        "gb_per_s",
        "bandwidth_share",
        "peak_rss_bytes",
        "isa",
        "threads",
    } <= fields.keys()
    assert fields["threads"] == 1 and fields["prompt_tokens"] == 32


def test_command_table() -> None:
    done = run("speed", "--prompt", "32", "--decode", "8", "--runs", "1")
    assert done.returncode == 0, done.stderr
    assert "tokens/s" in done.stdout and "GB/s" in done.stdout


def test_command_on_a_missing_file() -> None:
    done = run("speed", "-m", "nowhere.gguf")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "nowhere.gguf" in done.stderr
