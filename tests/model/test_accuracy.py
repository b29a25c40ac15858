"""KL divergence from the float64 oracle: at most 1.1 times that of llama.cpp on the same file and text."""

from __future__ import annotations

from dataclasses import dataclass

import compare_accuracy as accuracy
import numpy as np
import pytest
from reference_forward import Array, ReferenceModel, divergences

from binhdan import _native
from binhdan.bench.micro import llama_cpp
from binhdan.runtime.client.model import embedded_model

RATIO_LIMIT = 1.1


@dataclass(frozen=True)
class Baseline:
    texts: list[list[int]]
    expected: Array
    llama_cpp: Array  # divergences of llama.cpp


@pytest.fixture(scope="module")
def baseline() -> Baseline:
    if not llama_cpp.installed():
        pytest.skip("llama-cpp-python is not installed")
    texts = accuracy.tokenized(embedded_model(), accuracy.TEXT.read_text("utf-8").splitlines())
    oracle = ReferenceModel(embedded_model())
    expected = np.concatenate([oracle.logits(tokens) for tokens in texts])
    theirs = accuracy.llama_cpp_logits(embedded_model(), texts)
    return Baseline(texts, expected, divergences(expected, theirs))


@pytest.mark.slow
@pytest.mark.parametrize("decode", [False, True], ids=["prefill", "decode"])
@pytest.mark.parametrize("isa", _native.isas())
def test_divergence_is_near_that_of_llama_cpp(isa: str, decode: bool, baseline: Baseline) -> None:
    ours = accuracy.our_logits(embedded_model(), isa, decode, baseline.texts)
    ratio, low, high = accuracy.ratio_interval(divergences(baseline.expected, ours), baseline.llama_cpp)
    assert ratio <= RATIO_LIMIT, f"{ratio:.2f} ({low:.2f} to {high:.2f})"


def test_the_interval_contains_the_ratio() -> None:
    random = np.random.default_rng(3)
    theirs = random.exponential(1.0, 4096)
    ratio, low, high = accuracy.ratio_interval(2 * theirs, theirs)
    assert ratio == low == high == pytest.approx(2)  # both samples share their positions
    ratio, low, high = accuracy.ratio_interval(random.exponential(1.0, 4096), theirs)
    assert low < 1 < high and low <= ratio <= high
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(2 / 4096), rel=0.2)
