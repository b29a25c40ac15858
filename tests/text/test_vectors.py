"""The vocabularies and expected tokens of llama.cpp's own tests."""

from __future__ import annotations

import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

import binhdan


@pytest.mark.parametrize("name", ["gemma-4", "gpt-2", "llama-spm", "mpt", "qwen2", "qwen35"])
def test_vectors(
    name: str, shared: Path, tmp_path: Path, vocabulary_model: Callable[[Path], binhdan.Model]
) -> None:
    base = shared / "data" / "tokenizers" / f"ggml-vocab-{name}.gguf"
    vocabulary = tmp_path / "vocabulary.gguf"
    vocabulary.write_bytes(lzma.decompress(base.with_name(base.name + ".xz").read_bytes()))
    texts = base.with_name(base.name + ".inp").read_bytes().split(b"\n__ggml_vocab_test__\n")
    lines = base.with_name(base.name + ".out").read_text().splitlines()
    texts = texts[: len(lines)]  # some files end with a separator
    assert len(texts) == len(lines) > 40
    model = vocabulary_model(vocabulary)
    for text, line in zip(texts, lines, strict=True):
        expected = [int(token) for token in line.split()]
        assert model.tokenize(text) == expected
        assert model.detokenize_bytes(expected) == text
