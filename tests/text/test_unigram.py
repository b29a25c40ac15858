"""csrc/text/unigram.cpp and charsmap.cpp: the same tokens as the sentencepiece and tokenizers libraries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import gguf
import pytest
import tokenizers
from tiny_vocabularies import (
    UnigramOptions,
    add_unigram_keys,
    charsmap_of,
    pack_charsmap,
    texts,
    train_unigram,
    write_zero_model,
)
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

import binhdan

DEFAULT = UnigramOptions()


@contextmanager
def load(
    path: Path, options: UnigramOptions, extra: Callable[[gguf.GGUFWriter], None] = lambda writer: None
) -> Iterator[binhdan.Model]:
    processor = train_unigram(options)

    def add_keys(writer: gguf.GGUFWriter) -> None:
        add_unigram_keys(writer, processor, options)
        extra(writer)

    with binhdan.load(write_zero_model(path, processor.vocab_size(), add_keys), threads=1) as model:
        yield model


@pytest.mark.parametrize(
    "options",
    [
        DEFAULT,
        UnigramOptions(byte_fallback=True),
        UnigramOptions(remove_extra_whitespaces=False),
        UnigramOptions(remove_extra_whitespaces=False, add_dummy_prefix=False),
        UnigramOptions(add_dummy_prefix=False),
        UnigramOptions(normalization="identity", split_by_whitespace=False),
    ],
    ids=lambda options: "-".join(
        f"{value:d}" if value in (True, False) else value for value in vars(options).values()
    ),
)
@pytest.mark.parametrize("form", ["NFC", "NFD", None], ids=str)
def test_tokens_equal_those_of_sentencepiece(
    options: UnigramOptions, form: str | None, tmp_path: Path
) -> None:
    processor = train_unigram(options)
    with load(tmp_path / "model.gguf", options) as model:
        for text in texts(600, 1, form):
            assert model.tokenize(text) == processor.encode(text), text


def test_invalid_utf8_is_replaced_as_in_sentencepiece(tmp_path: Path) -> None:
    processor = train_unigram(DEFAULT)
    with load(tmp_path / "model.gguf", DEFAULT) as model:
        for data in (b"a\xffb", b"\xe1\xbb", b"\xc3 n\x80\x80g", b"\xed\xa0\x80"):
            assert model.tokenize(data) == processor.encode(data), data


def hugging_face(options: UnigramOptions) -> tokenizers.Tokenizer:
    """The tokenizer that transformers makes of an XLM-R vocabulary."""
    processor = train_unigram(options)
    pieces = [(processor.id_to_piece(i), processor.get_score(i)) for i in range(processor.vocab_size())]
    tokenizer = tokenizers.Tokenizer(models.Unigram(pieces, unk_id=processor.unk_id(), byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Precompiled(charsmap_of(processor)), normalizers.Replace(tokenizers.Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    tokenizer.add_special_tokens(["<s>", "</s>", "<unk>"])
    return tokenizer


def test_tokens_with_bos_and_eos_equal_those_of_the_tokenizers_library(tmp_path: Path) -> None:
    reference = hugging_face(DEFAULT)
    # tokenizers normalizes a grapheme of several characters otherwise than SentencePiece, and cuts at U+0085.
    excluded = {"\x85", "\u200d", "\u0301", "\u0323", "ﾞ"}
    with load(tmp_path / "model.gguf", DEFAULT) as model:
        for text in texts(600, 2, "NFC"):
            if excluded.isdisjoint(text):
                ids = reference.encode(text).ids
                assert model.tokenize(text, add_special=True) == ids, text
                assert model.detokenize(ids) == reference.decode(ids), text


def test_control_tokens_in_markup_only(tmp_path: Path) -> None:
    with load(tmp_path / "model.gguf", DEFAULT) as model:
        assert model.tokenize("</s>", parse_special=True) == [2]
        assert 2 not in model.tokenize("</s>")


@pytest.mark.parametrize(
    ("charsmap", "message"),
    [
        (b"\x01", "expected at least 4 bytes, got 1"),
        (pack_charsmap([], b"a\0"), "expected a trie of 4 to 2 bytes, in units of 4, got 0"),
        (b"\x03\0\0\0abcd", "in units of 4, got 3"),
        (b"\xfc\xff\xff\xff" + bytes(8), "got 4294967292"),
        (pack_charsmap([0], b"abc"), "expected a final NUL byte"),
        (pack_charsmap([0], b"a" * 300 + b"\0"), "expected at most 256 bytes, got 300"),
    ],
)
def test_damaged_charsmaps_are_rejected(charsmap: bytes, message: str, tmp_path: Path) -> None:
    options = UnigramOptions(normalization="identity")
    with (
        pytest.raises(binhdan.BadFormatError, match=message),
        load(tmp_path / "model.gguf", options, lambda writer: writer.add_precompiled_charsmap(charsmap)),
    ):
        pass


def test_a_hostile_trie_is_safe(tmp_path: Path) -> None:
    """Units that lead beyond the array, in a circle, and to a replacement that is not there."""
    everywhere = [0x100 | byte | 1 << 10 for byte in range(256)]  # each with a value, and an offset of 1
    charsmap = pack_charsmap([*everywhere, 0x7FFFFFFF], b"a\0")
    options = UnigramOptions(normalization="identity")
    with load(tmp_path / "model.gguf", options, lambda w: w.add_precompiled_charsmap(charsmap)) as model:
        for text in texts(200, 3, None):
            assert all(0 <= token < 350 for token in model.tokenize(text))
