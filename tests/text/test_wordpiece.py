"""csrc/text/wordpiece.cpp: the same tokens as BERT's tokenizer of the tokenizers library."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import gguf
import pytest
import tokenizers
from tiny_vocabularies import lines, texts, write_zero_model
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

import binhdan

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@cache
def bert(lowercase: bool, strip_accents: bool | None) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=strip_accents)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    trainer = trainers.WordPieceTrainer(
        vocab_size=700,
        special_tokens=SPECIALS,
        show_progress=False,
        initial_alphabet=["漢", "한", "Σ", "$", "▁"],
    )
    tokenizer.train_from_iterator(lines(), trainer)
    cls, sep = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", cls), ("[SEP]", sep)]
    )
    return tokenizer


def marked(token: str) -> str:
    """The spelling of a token in GGUF."""
    if token in SPECIALS:
        return token
    return token[2:] if token.startswith("##") else "▁" + token


@contextmanager
def load(path: Path, tokenizer: tokenizers.Tokenizer, **options: bool) -> Iterator[binhdan.Model]:
    tokens = [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())]

    def add_keys(writer: gguf.GGUFWriter) -> None:
        writer.add_tokenizer_model("bert")
        writer.add_tokenizer_pre("default")
        writer.add_token_list([marked(token) for token in tokens])
        writer.add_token_types([3 if token in SPECIALS else 1 for token in tokens])
        for name, value in options.items():
            writer.add_bool(f"tokenizer.ggml.normalizer.{name}", value)

    with binhdan.load(write_zero_model(path, len(tokens), add_keys), threads=1) as model:
        yield model


@pytest.mark.parametrize(
    ("lowercase", "strip_accents"), [(True, None), (True, False), (False, None), (False, True)], ids=str
)
@pytest.mark.parametrize("form", ["NFC", "NFD", None], ids=str)
def test_tokens_equal_those_of_bert(
    lowercase: bool, strip_accents: bool | None, form: str | None, tmp_path: Path
) -> None:
    reference = bert(lowercase, strip_accents)
    options = {"lowercase": lowercase} | ({} if strip_accents is None else {"strip_accents": strip_accents})
    with load(tmp_path / "model.gguf", reference, **options) as model:
        for text in texts(600, 1, form):
            assert model.tokenize(text, add_special=True) == reference.encode(text).ids, text


def test_default_is_lower_case_without_accents(tmp_path: Path) -> None:
    reference = bert(True, None)
    with load(tmp_path / "model.gguf", reference) as model:
        assert model.tokenize("Người VIỆT", add_special=True) == reference.encode("nguoi viet").ids


def test_decoding_separates_words_by_spaces(tmp_path: Path) -> None:
    reference = bert(True, None)
    with load(tmp_path / "model.gguf", reference) as model:
        ids = reference.encode("Thành phố Hà Nội").ids
        assert model.detokenize(ids) == reference.decode(ids) == "thanh pho ha noi"


def test_a_word_of_more_than_100_characters_is_unknown(tmp_path: Path) -> None:
    reference = bert(True, None)
    with load(tmp_path / "model.gguf", reference) as model:
        for text in ("a" * 100, "a" * 101, "ệ" * 100, "a" * 100 + "\u0301", "x" * 5000 + " a"):
            assert model.tokenize(text, add_special=True) == reference.encode(text).ids


def test_every_kind_of_character(tmp_path: Path) -> None:
    reference = bert(False, False)
    draw = random.Random(5)
    with load(tmp_path / "model.gguf", reference, lowercase=False) as model:
        for _ in range(300):
            text = "".join(chr(draw.randrange(0x20, 0x250)) for _ in range(30))
            assert model.tokenize(text, add_special=True) == reference.encode(text).ids, text
