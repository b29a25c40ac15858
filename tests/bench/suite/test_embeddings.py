"""bench/suite/embeddings.py: engines embed the same texts in turns, each in its own process."""

from __future__ import annotations

from pathlib import Path

import pytest

import binhdan
from binhdan.bench.micro.embedding_child import EmbeddingCase, run
from binhdan.bench.suite.embeddings import compare, short_texts, table
from binhdan.runtime.client.model import embedded_model


def case(texts: int = 3, model: Path | None = None) -> EmbeddingCase:
    return EmbeddingCase(model=model or embedded_model(), threads=1, texts=short_texts(texts))


def test_texts_are_short_and_different() -> None:
    texts = short_texts(500)
    assert len(set(texts)) == 500
    assert max(map(len, texts)) <= 126


def test_a_case_survives_json() -> None:
    assert EmbeddingCase.from_json(case().to_json()) == case()


def test_engines_take_turns() -> None:
    steps: list[tuple[int, str]] = []
    engines = ["binhdan", "binhdan:scalar"]
    result = compare(engines, case(), 2, lambda turn, name: steps.append((turn, name)))
    assert steps == [(0, "binhdan"), (0, "binhdan:scalar"), (1, "binhdan:scalar"), (1, "binhdan")]
    ours, scalar = result.results
    assert scalar.instruction_sets == "scalar"
    assert ours.ratio is None and scalar.ratio is not None
    assert scalar.ratio.low <= scalar.ratio.median <= scalar.ratio.high
    assert result.texts == 3 and "binhdan:scalar" in table(result)


def test_an_engine_that_fails_is_named() -> None:
    with pytest.raises(binhdan.BinhdanError, match="binhdan:avx9"):
        compare(["binhdan:avx9"], case(), 1)


def test_llama_cpp_python_embeds_the_same_texts() -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    assert run("llama-cpp-python", case()).seconds > 0
