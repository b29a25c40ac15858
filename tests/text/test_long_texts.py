"""Texts of a megabyte. No clock: an algorithm of quadratic time does not end before pytest's time limit."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_vocabularies import UnigramOptions, add_unigram_keys, train_unigram, write_zero_model

import binhdan

UNITS = ["a", " ", "\n", " \n", "!", "🦙", "\u0301", "Việt Nam ", "Việt", "<|im_start|>", "<"]
BYTES = 1_000_000


def repeated(unit: str) -> str:
    return unit * (BYTES // len(unit.encode()))


@pytest.mark.parametrize("unit", UNITS, ids=ascii)
def test_a_byte_level_vocabulary(model: binhdan.Model, unit: str) -> None:
    text = repeated(unit)
    for parse_special in (False, True):
        tokens = model.tokenize(text, parse_special=parse_special)
        assert model.detokenize(tokens, special=True) == text


def test_a_unigram_vocabulary_with_byte_fallback(tmp_path: Path) -> None:
    options = UnigramOptions(byte_fallback=True, remove_extra_whitespaces=False, normalization="identity")
    processor = train_unigram(options)
    path = write_zero_model(
        tmp_path / "model.gguf",
        processor.vocab_size(),
        lambda writer: add_unigram_keys(writer, processor, options),
    )
    with binhdan.load(path, threads=1) as model:
        for unit in UNITS:
            text = repeated(unit)
            assert model.detokenize(model.tokenize(text)) == text
