"""A draft model: answers stay the same, and models that do not fit together are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_models import SMALL, write_gguf

import binhdan

QUESTIONS = ["them dau: ha noi la thu do cua viet nam", "xin chào", "Bạn là ai?"]


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_answers_are_the_same(temperature: float) -> None:
    options = {"temperature": temperature, "seed": 7, "max_tokens": 40}
    with binhdan.load() as model:
        plain = [model.ask(question, **options) for question in QUESTIONS]
        draft = model.path
    with binhdan.load(draft=draft) as model:
        drafted = [model.ask(question, **options) for question in QUESTIONS]
        off = model.ask(QUESTIONS[0], **options, max_draft_tokens=0)
    assert [answer.text for answer in drafted] == [answer.text for answer in plain]
    assert sum(answer.drafted_tokens for answer in drafted) > 0
    assert off.drafted_tokens == 0 and off.text == plain[0].text


def test_other_tokens(tmp_path: Path) -> None:
    other = write_gguf(tmp_path / "other.gguf", SMALL)
    with pytest.raises(binhdan.InvalidArgumentError, match="draft: expected a model with the tokens of"):
        binhdan.load(draft=other)


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    with pytest.raises(binhdan.ModelNotFoundError, match="no such file"):
        binhdan.load(draft=tmp_path / "nothing.gguf")
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(b"GGUF\x03\0\0\0" + b"\xff" * 40)
    with pytest.raises(binhdan.BadFormatError):
        binhdan.load(draft=damaged)
