"""Conversion of tokenizer.json to vocabulary keys."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from quantize_helpers import edit_json
from tiny_models import CHATML, SMALL, hf_tokenizer, vocabulary_size, write_checkpoint

from binhdan.quantize.checkpoint import CheckpointError, open_checkpoint
from binhdan.quantize.tokenizer import TokenKind, Vocabulary, read_vocabulary

SPM = replace(SMALL, vocabulary="llama")


def vocabulary_of(folder: Path, size: int | None = None, **changes: Any) -> Vocabulary:
    """Returns the vocabulary of a checkpoint after replacing parts of its tokenizer.json."""
    edit_json(folder / "tokenizer.json", **changes)
    byte_fallback = json.loads((folder / "tokenizer.json").read_text())["model"]["byte_fallback"]
    kind = "llama" if byte_fallback else "gpt2"
    return read_vocabulary(open_checkpoint(folder), size or vocabulary_size(kind))


@pytest.fixture
def byte_level(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "gpt2", SMALL)


@pytest.fixture
def spm(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "llama", SPM)


def test_byte_level(byte_level: Path) -> None:
    v = vocabulary_of(byte_level)
    assert (v.model, v.pre) == ("gpt2", "qwen2")
    assert v.tokens[:3] == ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    assert v.kinds[:4] == [TokenKind.CONTROL] * 3 + [TokenKind.NORMAL]
    assert v.merges[0].count(" ") == 1
    assert v.special_ids == {"eos": 2, "pad": 0}
    assert (v.add_bos, v.add_eos, v.chat_template) == (False, False, CHATML)


def test_sentencepiece_style(spm: Path) -> None:
    v = vocabulary_of(spm)
    assert (v.model, v.pre, v.merges) == ("llama", "default", [])
    assert v.kinds[:3] == [TokenKind.UNKNOWN, TokenKind.CONTROL, TokenKind.CONTROL]
    assert v.kinds[3:259] == [TokenKind.BYTE] * 256
    assert v.special_ids == {"bos": 1, "eos": 2, "unk": 0}
    assert (v.add_bos, v.add_eos, v.add_space_prefix) == (True, False, True)
    assert v.scores[:260] == [0.0] * 260  # the first merge's result scores 0
    assert v.scores[260] == -1.0


def test_scores_rank_merge_results_not_pairs(spm: Path) -> None:
    spec = hf_tokenizer("llama")
    first, second = spec["model"]["merges"][:2]
    whole = "".join(first)
    spec["model"]["vocab"][whole + whole] = 384
    spec["model"]["merges"] = [first, first, [whole, whole], second]
    v = vocabulary_of(spm, 385, **spec)
    score = dict(zip(v.tokens, v.scores, strict=True))
    assert (score[whole], score[whole + whole], score["".join(second)]) == (0.0, -1.0, -2.0)


@pytest.mark.parametrize(
    ("pre_tokenizer", "name"),
    [
        ({"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}, "gpt-2"),
        (
            {
                "type": "Sequence",
                "pretokenizers": [
                    {
                        "type": "Split",
                        "pattern": {
                            "Regex": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
                            r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
                        },
                        "behavior": "Isolated",
                        "invert": False,
                    },
                    {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
                ],
            },
            "llama-bpe",
        ),
    ],
)
def test_pre_tokenizers_are_recognized(pre_tokenizer: dict[str, Any], name: str, byte_level: Path) -> None:
    model = hf_tokenizer("gpt2")["model"] | {"ignore_merges": name == "llama-bpe"}
    v = vocabulary_of(byte_level, pre_tokenizer=pre_tokenizer, model=model)
    assert v.pre == name
    assert not any("ignore_merges" in note for note in v.notes)


def test_unassigned_ids_become_padding(byte_level: Path) -> None:
    v = vocabulary_of(byte_level, 330)
    assert v.tokens[320] == "[PAD320]"
    assert v.kinds[320:] == [TokenKind.UNUSED] * 10


def test_added_tokens_without_special_are_user_defined(byte_level: Path) -> None:
    added = [*hf_tokenizer("gpt2")["added_tokens"], {"id": 320, "content": "<think>", "special": False}]
    v = vocabulary_of(byte_level, 321, added_tokens=added)
    assert (v.tokens[320], v.kinds[320]) == ("<think>", TokenKind.USER_DEFINED)


def test_an_unknown_end_token_becomes_eot(byte_level: Path) -> None:
    added = [*hf_tokenizer("gpt2")["added_tokens"], {"id": 320, "content": "<hết>", "special": True}]
    edit_json(byte_level / "generation_config.json", eos_token_id=[2, 0, 320])
    assert vocabulary_of(byte_level, 321, added_tokens=added).special_ids["eot"] == 320


def test_tokenizer_config_decides_add_bos_and_add_eos(spm: Path) -> None:
    edit_json(spm / "tokenizer_config.json", add_bos_token=False, add_eos_token=True)
    v = vocabulary_of(spm)
    assert (v.add_bos, v.add_eos) == (False, True)


@pytest.mark.parametrize(
    ("normalizer", "pre_tokenizer", "prefix"),
    [
        ({"type": "Replace", "pattern": {"String": " "}, "content": "▁"}, None, False),
        (None, {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}, True),
        (None, {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": False}, False),
    ],
)
def test_space_prefix(normalizer: Any, pre_tokenizer: Any, prefix: bool, spm: Path) -> None:
    v = vocabulary_of(spm, normalizer=normalizer, pre_tokenizer=pre_tokenizer)
    assert v.add_space_prefix is prefix


@pytest.mark.parametrize("where", ["chat_template.jinja", "chat_template.json", "list", "none"])
def test_chat_template_sources(where: str, byte_level: Path) -> None:
    template: Any = [{"name": "tool", "template": "no"}, {"name": "default", "template": "yes"}]
    edit_json(byte_level / "tokenizer_config.json", chat_template=template if where == "list" else None)
    if where == "chat_template.jinja":
        (byte_level / where).write_text("yes")
    if where == "chat_template.json":
        (byte_level / where).write_text('{"chat_template": "yes"}')
    assert vocabulary_of(byte_level).chat_template == ("" if where == "none" else "yes")


def test_a_list_of_chat_templates_without_a_default(
    byte_level: Path, caplog: pytest.LogCaptureFixture
) -> None:
    templates = [{"name": name, "template": name} for name in ("rerank", "tool_use", "rag")]
    edit_json(byte_level / "tokenizer_config.json", chat_template=templates)
    assert vocabulary_of(byte_level).chat_template == "tool_use"
    assert "no default chat template; 'tool_use' is used" in caplog.text
    edit_json(byte_level / "tokenizer_config.json", chat_template=templates[:1])
    assert vocabulary_of(byte_level).chat_template == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"type": "WordLevel", "byte_fallback": False}}, "'WordLevel' is not supported"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "byte-level BPE or a BPE with byte_fallback"),
        ({"normalizer": {"type": "Lowercase"}}, "normalizer 'Lowercase' is not supported"),
        ({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True}}, "add_prefix_space"),
        (
            {"pre_tokenizer": {"type": "ByteLevel", "use_regex": False}},
            "expected the expressions of one of bailingmoe",
        ),
        ({"added_tokens": [{"id": 320, "content": "x"}]}, "'x': expected an id below 320, got 320"),
        ({"added_tokens": [{"id": 5, "content": "<x>"}]}, "have the same id 5"),
        ({"added_tokens": [{"id": 5}]}, "None"),
    ],
)
def test_unsupported_tokenizers_are_rejected(change: dict[str, Any], message: str, byte_level: Path) -> None:
    with pytest.raises(CheckpointError) as error:
        vocabulary_of(byte_level, 320, **change)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("merges", "message"),
    [
        (["a"], "expected two tokens"),
        ([["a", "☃"]], "is not in the vocabulary"),
        ([["a b", "c"]], "expected tokens without a space"),
        ({}, "expected a list"),
        ([[1, 2]], "two tokens"),
    ],
)
def test_invalid_merges_are_rejected(merges: Any, message: str, byte_level: Path) -> None:
    model = hf_tokenizer("gpt2")["model"] | {"merges": merges}
    with pytest.raises(CheckpointError, match=message):
        vocabulary_of(byte_level, model=model)


def test_byte_fallback_requires_all_byte_tokens(spm: Path) -> None:
    model = hf_tokenizer("llama")["model"]
    del model["vocab"]["<0x41>"]
    with pytest.raises(CheckpointError, match="<0x41>"):
        vocabulary_of(spm, model=model)
