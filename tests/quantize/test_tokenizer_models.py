"""Converted tokenizers give the same tokens as the tokenizers library."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from quantize_helpers import add_vocabulary
from tiny_models import hf_tokenizer
from tiny_tokenizers import bert, convert, gemma, sentencepiece_bpe, xlm_roberta
from tiny_vocabularies import (
    texts,
    write_zero_model,
)

import binhdan
from binhdan import _native
from binhdan.quantize.checkpoint import CheckpointError
from binhdan.quantize.pretokenizers import pre_tokenizer_name
from binhdan.quantize.tokenizer import TokenKind, Vocabulary


@contextmanager
def load(path: Path, vocabulary: Vocabulary) -> Iterator[binhdan.Model]:
    rows = len(vocabulary.tokens)
    model_file = write_zero_model(path, rows, lambda writer: add_vocabulary(writer, vocabulary))
    with binhdan.load(model_file, threads=1) as model:
        yield model


# ---- Unigram -----------------------------------------------------------------------------------------------


def test_unigram(tmp_path: Path) -> None:
    reference = xlm_roberta()
    v = convert(
        tmp_path / "c",
        reference,
        "xlm-roberta",
        cls_token="<s>", bos_token="<s>", eos_token="</s>", sep_token="</s>", mask_token="<mask>",
    )  # fmt: skip
    assert (v.model, v.add_bos, v.add_eos) == ("t5", True, True)
    assert (v.add_space_prefix, v.remove_extra_whitespaces) == (True, True)
    assert v.kinds[0] == TokenKind.UNKNOWN
    assert v.special_ids == {"unk": 0, "bos": 1, "eos": 2, "cls": 1, "sep": 2, "mask": len(v.tokens) - 1}
    excluded = {"\x85", "\u200d", "\u0301", "\u0323", "ﾞ"}  # as in tests/text/test_unigram.py
    with load(tmp_path / "model.gguf", v) as model:
        for text in texts(200, 1, "NFC"):
            if excluded.isdisjoint(text):
                assert model.tokenize(text, add_special=True) == reference.encode(text).ids, text
        masked = "Việt <mask> Nam"
        assert model.tokenize(masked, add_special=True, parse_special=True) == reference.encode(masked).ids
    assert any("white space beside them" in note and "<mask>" in note for note in v.notes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"normalizer": {"type": "Lowercase"}}, "step {'type': 'Lowercase'} is not supported"),
        ({"normalizer": {"type": "Precompiled", "precompiled_charsmap": "*"}}, "expected base64"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "step {'type': 'Whitespace'} is not supported"),
        (
            {"model": {"type": "Unigram", "unk_id": None, "vocab": [["a", 0.0]]}},
            "model.unk_id: expected an id",
        ),
        ({"model": {"type": "Unigram", "unk_id": 0, "vocab": [["a"]]}}, "expected a list of pairs"),
        (
            {"model": {"type": "Unigram", "unk_id": 0, "byte_fallback": True, "vocab": [["a", 0.0]]}},
            "byte_fallback requires the token <0x00>",
        ),
    ],
)
def test_unsupported_unigram_models_are_rejected(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    spec = json.loads(xlm_roberta().to_str()) | {"added_tokens": [{"id": 0, "content": "a"}], "decoder": None}
    spec["model"] = {"type": "Unigram", "unk_id": 0, "vocab": [["a", 0.0]], "byte_fallback": False}
    with pytest.raises(CheckpointError) as error:
        convert(tmp_path / "c", spec | change)
    assert message in str(error.value)


# ---- WordPiece ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lowercase", [True, False])
def test_wordpiece(lowercase: bool, tmp_path: Path) -> None:
    reference = bert(lowercase)
    v = convert(tmp_path / "c", reference, "bert", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]")
    assert (v.model, v.add_bos, v.add_sep, v.lowercase, v.strip_accents) == (
        "bert",
        True,
        True,
        lowercase,
        lowercase,
    )
    assert v.special_ids == {"unk": 1, "cls": 2, "sep": 3, "mask": 4, "bos": 2}
    assert v.notes == []
    with load(tmp_path / "model.gguf", v) as model:
        for text in texts(200, 2, None):
            assert model.tokenize(text, add_special=True) == reference.encode(text).ids, text


def test_unsupported_wordpiece_models_are_rejected(tmp_path: Path) -> None:
    spec = json.loads(bert(True).to_str())
    with pytest.raises(CheckpointError, match="expected BertNormalizer with clean_text"):
        convert(tmp_path / "c", spec | {"normalizer": {"type": "NFC"}})


# ---- BPE ---------------------------------------------------------------------------------------------------


def test_gemma4(tmp_path: Path) -> None:
    reference = gemma()
    v = convert(tmp_path / "c", reference, "gemma4", bos_token="<bos>", eos_token="<eos>", unk_token="<unk>")
    assert (v.model, v.pre, v.add_bos, v.add_eos, v.scores) == ("gemma4", "gemma4", True, False, [])
    assert v.kinds[4:260] == [TokenKind.BYTE] * 256
    with load(tmp_path / "model.gguf", v) as model:
        for text in texts(300, 3, None):
            ids = reference.encode(text).ids
            assert model.tokenize(text, add_special=True) == ids, text
            if "▁" not in text:
                assert model.detokenize(ids) == text


def test_missing_merges_are_noted(tmp_path: Path) -> None:
    """A trained BPE has one merge per token; SentencePiece would merge other pairs to the same token."""
    assert any("lack merges" in note for note in convert(tmp_path / "c", gemma(), "gemma3").notes)


def test_sentencepiece_bpe(tmp_path: Path) -> None:
    processor, spec = sentencepiece_bpe()
    v = convert(tmp_path / "c", spec, "gemma3_text", unk_token="<unk>")
    assert (v.model, v.add_space_prefix, v.notes) == ("llama", False, [])
    with load(tmp_path / "model.gguf", v) as model:
        for text in texts(300, 4, None):
            assert model.tokenize(text) == processor.encode(text), text


def split(*patterns: str, use_regex: bool = False) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        for pattern in patterns
    ]
    return [*steps, {"type": "ByteLevel", "add_prefix_space": False, "use_regex": use_regex}]


@pytest.mark.parametrize("name", ["qwen35", "tekken", "gpt-4o", "deepseek-v3", "minicpm5", "youtu", "jais-2"])
def test_names_of_expressions(name: str) -> None:
    patterns = _native.pretokenizer_patterns(name)
    if name == "jais-2":
        halves = "".join(rf"\s{{{2**i}}}(?!\S)|" for i in range(9, 1, -1)) + r"\s{1,2}(?!\S)|\s{1}"
        patterns = [patterns[0].replace(r"\s+(?!\S)|\s+", halves)]
    steps = {"pre_tokenizer": {"type": "Sequence", "pretokenizers": split(*patterns)}}
    ignore_merges = name in ("tekken", "minicpm5", "youtu")
    notes: list[str] = []
    assert (pre_tokenizer_name(steps, ignore_merges, notes), notes) == (name, [])


@pytest.mark.parametrize(
    ("steps", "name"),
    [
        ([{"type": "Digits", "individual_digits": True}, *split(use_regex=True)], "starcoder"),
        (
            split(
                r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*"
                r"|\s*[\r\n]+|\s+(?!\S)|\s+"
            ),
            "smaug-bpe",
        ),
        (
            split(r"\d{1,3}(?=(?:\d{3})*\b)", *_native.pretokenizer_patterns("gpt-4o")),
            "tiny_aya",
        ),
    ],
)
def test_names_of_other_spellings(steps: list[dict[str, Any]], name: str) -> None:
    spec = {"pre_tokenizer": {"type": "Sequence", "pretokenizers": steps}}
    assert pre_tokenizer_name(spec, False, []) == name


# ---- what GGUF cannot store --------------------------------------------------------------------------------


def byte_level(**changes: Any) -> dict[str, Any]:
    return hf_tokenizer("gpt2") | changes


def template(*steps: str) -> dict[str, Any]:
    single: list[dict[str, Any]] = [
        {"Sequence": {"id": "A"}} if step == "$A" else {"SpecialToken": {"id": step}} for step in steps
    ]
    return {"type": "TemplateProcessing", "single": single}


def test_the_post_processor_decides_bos_and_eos(tmp_path: Path) -> None:
    spec = byte_level(post_processor=template("<|im_start|>", "$A", "<|endoftext|>"))
    v = convert(tmp_path / "c", spec, eos_token="<|im_end|>")
    assert (v.add_bos, v.add_eos) == (True, True)
    assert v.special_ids == {"bos": 1, "eos": 0, "eot": 2}
    assert any("eos is <|endoftext|>, which the post-processor adds" in note for note in v.notes)


def test_roberta_processing(tmp_path: Path) -> None:
    processor = {"type": "RobertaProcessing", "cls": ["<|im_start|>", 1], "sep": ["<|im_end|>", 2]}
    v = convert(tmp_path / "c", byte_level(post_processor=processor))
    assert (v.add_bos, v.add_eos, v.special_ids) == (True, True, {"bos": 1, "eos": 2})


def test_further_tokens_of_the_post_processor_are_noted(tmp_path: Path) -> None:
    spec = byte_level(post_processor=template("<|im_start|>", "<|im_end|>", "$A"))
    v = convert(tmp_path / "c", spec)
    assert v.special_ids["bos"] == 1
    assert any("GGUF stores one token before and one after: <|im_end|>" in note for note in v.notes)


def test_tokenizer_config_overrides_the_post_processor(tmp_path: Path) -> None:
    spec = byte_level(post_processor=template("<|im_start|>", "$A"))
    v = convert(tmp_path / "c", spec, add_bos_token=False, bos_token="<|im_start|>")
    assert not v.add_bos


def test_flags_of_added_tokens(tmp_path: Path) -> None:
    added = hf_tokenizer("gpt2")["added_tokens"]
    added[1] = added[1] | {"rstrip": True}
    added[2] = added[2] | {"lstrip": True}
    more = added[0] | {"id": 320, "content": "<x>", "special": False, "normalized": True, "single_word": True}
    spec = byte_level(added_tokens=[*added, more])
    v = convert(tmp_path / "c", spec)
    assert (v.strip_left, v.strip_right) == ([2], [1])
    for part in (
        "white space beside them, which llama.cpp may keep: <|im_end|>, <|im_start|>",
        "inside of words too: <x>",
        "before normalization, not after it: <x>",
    ):
        assert any(part in note for note in v.notes), part
    reference = tokenizers.Tokenizer.from_str(json.dumps(spec))
    with load(tmp_path / "model.gguf", v) as model:
        for text in ("<|im_start|> \n Hà <|im_end|>\n", " <|im_end|><|im_start|>  ", "a <|im_start|>\tb"):
            assert model.tokenize(text, parse_special=True) == reference.encode(text).ids


def test_decoders_that_gguf_cannot_store_are_noted(tmp_path: Path) -> None:
    v = convert(tmp_path / "c", byte_level(decoder={"type": "CTC"}))
    assert any("decoder CTC: GGUF has no key for it" in note for note in v.notes)
    with pytest.raises(CheckpointError, match="decoder: type: expected a string"):
        convert(tmp_path / "d", byte_level(decoder={"type": []}))


def test_charsmap_is_kept_byte_by_byte(tmp_path: Path) -> None:
    spec = json.loads(xlm_roberta().to_str())
    assert (
        base64.b64decode(spec["normalizer"]["precompiled_charsmap"]) == convert(tmp_path / "c", spec).charsmap
    )
