"""Converted tokenizers give the same tokens as the tokenizers library."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import tokenizers
from quantize_helpers import edit_json
from tiny_models import SMALL, hf_tokenizer, write_checkpoint
from tiny_vocabularies import (
    UnigramOptions,
    charsmap_of,
    lines,
    texts,
    train_unigram,
    write_zero_model,
)
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

import binhdan
from binhdan import _native
from binhdan.quantize.checkpoint import CheckpointError, open_checkpoint
from binhdan.quantize.pretokenizers import pre_tokenizer_name
from binhdan.quantize.tokenizer import TokenKind, Vocabulary, read_vocabulary, write_vocabulary


def convert(
    folder: Path,
    tokenizer: tokenizers.Tokenizer | dict[str, Any],
    model_type: str = "llama",
    **tokenizer_config: Any,
) -> Vocabulary:
    spec = tokenizer if isinstance(tokenizer, dict) else json.loads(tokenizer.to_str())
    write_checkpoint(folder, SMALL)
    (folder / "tokenizer.json").write_text(json.dumps(spec), "utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config), "utf-8")
    (folder / "generation_config.json").unlink()
    edit_json(folder / "config.json", model_type=model_type, bos_token_id=None, eos_token_id=None)
    model = spec["model"]["vocab"]
    return read_vocabulary(
        open_checkpoint(folder), max(len(model), *(t["id"] + 1 for t in spec["added_tokens"]))
    )


@contextmanager
def load(path: Path, vocabulary: Vocabulary) -> Iterator[binhdan.Model]:
    rows = len(vocabulary.tokens)
    model_file = write_zero_model(path, rows, lambda writer: write_vocabulary(writer, vocabulary))
    with binhdan.load(model_file, threads=1) as model:
        yield model


def add_ends(tokenizer: tokenizers.Tokenizer, first: str | None, last: str | None) -> None:
    ends = [token for token in (first, last) if token is not None]
    tokenizer.add_special_tokens(ends)
    single = [*([first] if first else []), "$A", *([last] if last else [])]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, special_tokens=[(token, tokenizer.token_to_id(token)) for token in ends]
    )


# ---- Unigram -----------------------------------------------------------------------------------------------


def xlm_roberta() -> tokenizers.Tokenizer:
    processor = train_unigram(UnigramOptions())
    pieces = [(processor.id_to_piece(i), processor.get_score(i)) for i in range(processor.vocab_size())]
    tokenizer = tokenizers.Tokenizer(models.Unigram(pieces, unk_id=processor.unk_id(), byte_fallback=False))
    tokenizer.normalizer = normalizers.Precompiled(charsmap_of(processor))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    add_ends(tokenizer, "<s>", "</s>")
    tokenizer.add_special_tokens([tokenizers.AddedToken("<mask>", lstrip=True)])
    return tokenizer


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


def bert(lowercase: bool) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=500, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], show_progress=False
    )
    tokenizer.train_from_iterator(lines(), trainer)
    add_ends(tokenizer, "[CLS]", "[SEP]")
    return tokenizer


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


def gemma(prefix: bool = False) -> tokenizers.Tokenizer:
    """As transformers makes Gemma's: BPE of characters with byte fallback, and no space prefix."""
    tokenizer = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    special = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator([line.replace(" ", "\n", 1) for line in lines()], trainer)
    spec = json.loads(tokenizer.to_str())
    spec["added_tokens"] = spec["added_tokens"][:4]
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(spec))
    add_ends(tokenizer, "<bos>", None)
    return tokenizer


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


def sentencepiece_bpe() -> tuple[sentencepiece.SentencePieceProcessor, dict[str, Any]]:
    """A BPE of SentencePiece, and tokenizer.json as transformers converts it (Gemma 3)."""
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines()),
        model_writer=out,
        model_type="bpe",
        vocab_size=700,
        byte_fallback=True,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())
    vocab = {processor.id_to_piece(i): i for i in range(processor.vocab_size())}
    merges = []
    for text in sorted(vocab, key=lambda text: -processor.get_score(vocab[text])):
        cuts = [(text[:i], text[i:]) for i in range(1, len(text))]
        found = [(left, right) for left, right in cuts if left in vocab and right in vocab]
        merges += sorted(found, key=lambda pair: (vocab[pair[0]], vocab[pair[1]]))
    spec = json.loads(gemma().to_str())
    spec["added_tokens"] = [
        spec["added_tokens"][0] | {"id": i, "content": text} for text, i in vocab.items() if i < 3
    ]
    spec["model"] |= {"vocab": vocab, "merges": merges}
    return processor, spec | {"post_processor": None}


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


def test_charsmap_is_kept_byte_by_byte(tmp_path: Path) -> None:
    spec = json.loads(xlm_roberta().to_str())
    assert (
        base64.b64decode(spec["normalizer"]["precompiled_charsmap"]) == convert(tmp_path / "c", spec).charsmap
    )
