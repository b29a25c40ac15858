"""Converted vocabularies tokenize as the tokenizers package does (committed goldens)."""

import json
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from tiny_families import VocabularyKind
from tiny_models import SMALL, write_checkpoint

from binhdan.quantize.convert import convert
from binhdan.runtime.client.model import embedded_model
from binhdan.runtime.ffi import library
from binhdan.runtime.options import LoadOptions

TESTS = Path(__file__).parents[1]
GOLDENS = json.loads((TESTS / "goldens/tokenizers.json").read_text("utf-8"))


@pytest.mark.parametrize("name", ["gpt2", "llama", "embedded"])
def test_tokens_equal_those_of_the_tokenizers_package(name: str, tmp_path: Path) -> None:
    file = embedded_model()
    if name != "embedded":
        file = tmp_path / "out.gguf"
        checkpoint = write_checkpoint(tmp_path / "in", replace(SMALL, vocabulary=cast(VocabularyKind, name)))
        convert(checkpoint, file, "f16")
    handle = library().open_model(str(file), LoadOptions())
    try:
        for text, expected in zip(GOLDENS["texts"], GOLDENS["ids"][name], strict=True):
            assert library().tokenize(handle, text.encode(), parse_special=True) == expected, repr(text)
    finally:
        library().close_model(handle)
