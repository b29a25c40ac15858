"""Pruned vocabularies of every kind, against the tokenizers library with the same tokens removed."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gguf
import pytest
import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from quantize_helpers import add_vocabulary, keys_of
from tiny_models import hf_tokenizer
from tiny_tokenizers import bert, convert, gemma, sentencepiece_bpe, xlm_roberta
from tiny_vocabularies import UnigramOptions, add_unigram_keys, lines, texts, train_unigram, write_zero_model

from binhdan import _native
from binhdan.quantize.prune.closure import build, with_parts
from binhdan.quantize.prune.keys import PRUNED, ROWS_BEFORE, has_token_rows, prune_keys
from binhdan.quantize.prune.pruning import plan_pruning
from binhdan.quantize.prune.usage import tokenizer_of, used_by_text
from binhdan.quantize.prune.vocabulary import (
    BYTE_LETTERS,
    BYTE_NAMES,
    PruneError,
    VocabularyView,
    fillers,
    has_byte_fallback,
    protected,
    view_of,
)
from binhdan.runtime.errors import InvalidArgumentError

_KEPT_TEXT = "\n".join(lines()[:6])


@dataclass(frozen=True)
class Kind:
    """A tiny vocabulary: all keys of its file, and tokenizer.json."""

    name: str
    keys: dict[str, Any]
    spec: dict[str, Any] | None

    @property
    def exact(self) -> bool:
        """Whether decode(encode(x)) == x for all bytes."""
        return has_byte_fallback(view_of(self.keys)) and self.name != "unigram with bytes"


def _keys(add: Callable[[gguf.GGUFWriter], None], rows: int, folder: Path) -> dict[str, Any]:
    return {
        key: value
        for key, value in keys_of(write_zero_model(folder / "model.gguf", rows, add)).items()
        if not key.startswith("GGUF.")
    }


@cache
def kind_of(name: str) -> Kind:
    configs = {"eos_token": "</s>", "bos_token": "<s>"}
    with TemporaryDirectory() as folder:
        if name == "unigram with bytes":
            options = UnigramOptions(byte_fallback=True)
            trained = train_unigram(options)
            keys = _keys(
                lambda writer: add_unigram_keys(writer, trained, options), trained.vocab_size(), Path(folder)
            )
            return Kind(name, keys, None)
        spec, family, config = {
            "byte bpe": lambda: (hf_tokenizer("gpt2"), "qwen2", {}),
            "char bpe": lambda: (gemma(), "gemma4", {"bos_token": "<bos>", "unk_token": "<unk>"}),
            "sentencepiece bpe": lambda: (sentencepiece_bpe()[1], "gemma3_text", {"unk_token": "<unk>"}),
            "unigram": lambda: (xlm_roberta(), "xlm-roberta", configs),
            "wordpiece": lambda: (bert(False), "bert", {"cls_token": "[CLS]", "sep_token": "[SEP]"}),
        }[name]()
        vocabulary = convert(Path(folder) / "c", spec, family, **config)
        keys = _keys(lambda writer: add_vocabulary(writer, vocabulary), len(vocabulary.tokens), Path(folder))
        return Kind(name, keys, spec if isinstance(spec, dict) else json.loads(spec.to_str()))


KINDS = ["byte bpe", "char bpe", "sentencepiece bpe", "unigram", "unigram with bytes", "wordpiece"]


def prune(keys: dict[str, Any], text: str) -> tuple[VocabularyView, list[int], dict[str, Any]]:
    vocabulary = view_of(keys)
    with tokenizer_of(keys) as tokenizer:
        kept = sorted(with_parts(vocabulary, used_by_text(tokenizer, text.encode()) | protected(vocabulary)))
    return vocabulary, kept, prune_keys(keys, vocabulary, kept, "text")[0]


def tokenizer(keys: dict[str, Any]) -> _native.Tokenizer:
    with tokenizer_of(keys) as made:
        return made


@cache
def pruned(name: str) -> tuple[VocabularyView, list[int], _native.Tokenizer, _native.Tokenizer]:
    kind = kind_of(name)
    vocabulary, kept, keys = prune(kind.keys, _KEPT_TEXT)
    return vocabulary, kept, tokenizer(kind.keys), tokenizer(keys)


def reduced(spec: dict[str, Any], kept: list[int]) -> tokenizers.Tokenizer:
    """tokenizer.json without the other tokens and their merges."""
    new_ids = {old: new for new, old in enumerate(kept)}
    model = dict(spec["model"])
    vocab = model["vocab"]
    if isinstance(vocab, list):
        model["vocab"] = [vocab[token] for token in kept if token < len(vocab)]
        model["unk_id"] = new_ids[model["unk_id"]]
    else:
        model["vocab"] = {text: new_ids[token] for text, token in vocab.items() if token in new_ids}
    if "merges" in model:
        model["merges"] = [
            [left, right]
            for left, right in model["merges"]
            if {left, right, left + right} <= model["vocab"].keys()
        ]
    added = [entry | {"id": new_ids[entry["id"]]} for entry in spec["added_tokens"] if entry["id"] in new_ids]
    changed = spec | {"model": model, "added_tokens": added, "post_processor": None}
    return tokenizers.Tokenizer.from_str(json.dumps(changed))


@pytest.mark.parametrize("name", [name for name in KINDS if kind_of(name).spec])
def test_a_pruned_vocabulary_gives_the_tokens_of_the_reduced_reference(name: str) -> None:
    _, kept, _, new = pruned(name)
    spec = kind_of(name).spec
    assert spec is not None
    reference = reduced(spec, kept)
    # as in test_tokenizer_models.py
    excluded = {"\x85", "\u200d", "\u0301", "\u0323", "ﾞ"} if name == "unigram" else set()
    form = "NFC" if name in ("unigram", "byte bpe") else None
    for text in texts(300, 5, form):
        if excluded.isdisjoint(text):
            assert new.encode(text) == reference.encode(text, add_special_tokens=False).ids, text


@pytest.mark.parametrize("name", KINDS)
def test_kept_text_has_the_same_tokens(name: str) -> None:
    vocabulary, kept, old, new = pruned(name)
    assert len(kept) < vocabulary.size, "nothing was dropped, so nothing is tested"
    new_ids = {token: i for i, token in enumerate(kept)}
    compared = 0
    for text in [_KEPT_TEXT, *texts(300, 6, None)]:
        before = old.encode(text)
        if all(token in new_ids for token in before):
            assert new.encode(text) == [new_ids[token] for token in before], text
            compared += 1
    assert compared >= 20


@settings(max_examples=60)
@given(text=st.one_of(st.text(), st.binary(), st.text("aăâệ ngkhôĐ\n.,▁0🦙\u0301", max_size=60)))
@example(text=" " * 200 + "\n" * 50 + "=" * 90)
@example(text="漢字かな한국🦙👩\u200d👩 e\u0323\u0301")
@example(text=bytes(range(256)))
@pytest.mark.parametrize("name", [name for name in KINDS if name != "wordpiece"])
def test_every_text_decodes_as_before(name: str, text: str | bytes) -> None:
    _, _, old, new = pruned(name)
    decoded = new.decode(new.encode(text))
    assert decoded == old.decode(old.encode(text))
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if kind_of(name).exact and (name == "byte bpe" or "▁".encode() not in data):
        assert decoded == data


@settings(max_examples=12)
@given(chosen=st.lists(st.sampled_from(lines()), min_size=1, max_size=3), seed=st.integers(0, 99))
@pytest.mark.parametrize("name", KINDS)
def test_any_text_can_be_kept(name: str, chosen: list[str], seed: int) -> None:
    """Whatever is kept: its tokens stay, and merges, ids and special tokens are consistent."""
    kind = kind_of(name)
    words = "\n".join(chosen).split(" ")
    random.Random(seed).shuffle(words)
    text = " ".join(words[:12])
    vocabulary, kept, keys = prune(kind.keys, text)
    tokens = keys["tokenizer.ggml.tokens"]
    assert tokens == [vocabulary.tokens[token] for token in kept]
    assert [tokens[i] for i in tokenizer(keys).encode(text)] == [
        vocabulary.tokens[i] for i in pruned(name)[2].encode(text)
    ]
    known = set(tokens)
    merges = [tuple(merge.split(" ")) for merge in keys.get("tokenizer.ggml.merges", [])]
    assert merges == [
        (left, right) for left, right in vocabulary.merges if {left, right, left + right} <= known
    ]
    assert {token for token, type in enumerate(vocabulary.kinds) if type in (2, 3, 4, 6)} <= set(kept)


def test_a_token_is_built_by_the_merges_of_lowest_cost() -> None:
    ranks = {("a", "b"): 1.0, ("b", "c"): 0.0, ("a", "bc"): 2.0, ("ab", "c"): 3.0}
    assert build("abc", lambda left, right: ranks.get((left, right))) == ["a", "b", "c", "bc", "abc"]
    assert build("cab", lambda left, right: ranks.get((left, right))) == ["c", "a", "b", "ab"]
    equal = {("a", "a"): 1.0, ("aa", "aa"): 2.0}
    assert build("aaaa", lambda left, right: equal.get((left, right)))[4:] == ["aa", "aa", "aaaa"]


# ---- keys --------------------------------------------------------------------------------------------------


def byte_keys(**changes: Any) -> dict[str, Any]:
    tokens = [*BYTE_LETTERS, "ab", "abc", "<|im_end|>", "xy", "<unused0>", "pad", "<unused1>"]
    keys = {
        "general.architecture": "llama",
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [1] * 258 + [3, 1, 3, 5, 3],
        "tokenizer.ggml.merges": ["a b", "ab c", "x y"],
    }
    return keys | {key.replace("__", "."): value for key, value in changes.items()}


def plan(keys: dict[str, Any], tmp_path: Path, text: str) -> Any:
    file = tmp_path / "text.txt"
    file.write_text(text, "utf-8")
    return plan_pruning(keys, [], [file])


def test_ids_sizes_and_sets_of_tokens_are_rewritten(tmp_path: Path) -> None:
    result = plan(
        byte_keys(
            llama__vocab_size=263,
            llama__decoder_start_token_id=258,
            tokenizer__ggml__eos_token_id=258,
            tokenizer__ggml__padding_token_id=261,
            tokenizer__ggml__mask_token_id=4096,
            tokenizer__ggml__suppress_tokens=[257, 258, 259],
            binhdan__tokenizer__strip_right=[259],
            tokenizer__huggingface__json="{}",
            general__name="a model",
        ),
        tmp_path,
        "abcd <unused1>",
    )
    tokens = [result.vocabulary.tokens[token] for token in result.kept]
    assert tokens == [*BYTE_LETTERS, "ab", "abc", "<|im_end|>", "pad", "<unused1>"]
    keys = result.keys
    assert keys["tokenizer.ggml.merges"] == ["a b", "ab c"]
    assert keys["tokenizer.ggml.token_type"][256:] == [1, 1, 3, 5, 3]
    assert (keys["llama.vocab_size"], keys["llama.decoder_start_token_id"]) == (261, 258)
    assert (keys["tokenizer.ggml.eos_token_id"], keys["tokenizer.ggml.padding_token_id"]) == (258, 259)
    assert keys["tokenizer.ggml.suppress_tokens"] == [257, 258]
    assert "tokenizer.ggml.mask_token_id" not in keys
    assert "binhdan.tokenizer.strip_right" not in keys
    assert "tokenizer.huggingface.json" not in keys
    assert (keys[PRUNED], keys[ROWS_BEFORE], keys["general.name"]) == ("text.txt", 263, "a model")
    notes = "\n".join(result.notes)
    assert "mask_token_id is dropped: the vocabulary has no token 4096" in notes
    assert "tokenizer.huggingface.json is dropped" in notes
    assert "1 reserved tokens such as <unused0> are dropped" in notes


def test_tokens_of_the_chat_template_are_kept(tmp_path: Path) -> None:
    keys = byte_keys(tokenizer__chat_template="{{ 'xy' }}<unused0>")
    kept = set(plan(keys, tmp_path, "q").keys["tokenizer.ggml.tokens"])
    assert {"xy", "<unused0>"} <= kept
    assert not {"abc", "<unused1>"} & kept


@pytest.mark.parametrize("name", ["sentencepiece bpe", "unigram", "wordpiece"])
def test_assumed_ids_become_keys(name: str, tmp_path: Path) -> None:
    """Readers assume ids such as 0, 1 and 2 in files without these keys; pruning moves tokens to them."""
    without = {key: value for key, value in kind_of(name).keys.items() if not key.endswith("_token_id")}
    vocabulary = view_of(without)
    keys = plan(without, tmp_path, "Việt").keys
    assert vocabulary.ids
    for role, token in vocabulary.ids.items():
        assert (
            keys["tokenizer.ggml.tokens"][keys[f"tokenizer.ggml.{role}_token_id"]] == vocabulary.tokens[token]
        )


def test_one_merge_stays(tmp_path: Path) -> None:
    """Readers need the key tokenizer.ggml.merges, and GGUF has no empty arrays."""
    keys = plan(byte_keys(), tmp_path, "q").keys
    assert keys["tokenizer.ggml.merges"] == ["a b"]


def test_the_lowest_score_of_unigram_stays() -> None:
    """The encoder computes the score of unknown characters from it."""
    vocabulary, kept, _, _ = pruned("unigram")
    normal = [vocabulary.scores[token] for token, kind in enumerate(vocabulary.kinds) if kind == 1]
    assert min(normal) == min(vocabulary.scores[token] for token in kept if vocabulary.kinds[token] == 1)


def test_without_byte_tokens_all_characters_stay() -> None:
    vocabulary, kept, _, _ = pruned("unigram")
    tokens = {vocabulary.tokens[token] for token in kept}
    assert not has_byte_fallback(vocabulary)
    assert {text for text in vocabulary.tokens if len(text) == 1} <= tokens
    assert set("".join(vocabulary.tokens)) == set("".join(tokens))


def test_names_of_bytes() -> None:
    from tiny_models import byte_alphabet

    assert set(BYTE_LETTERS) == set(byte_alphabet().values())
    assert (BYTE_NAMES[10], len(BYTE_NAMES)) == ("<0x0A>", 256)
    assert fillers(view_of(byte_keys())) == {260, 262}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokenizer__ggml__model": "rwkv"}, "tokenizer.ggml.model: expected one of gpt2, "),
        ({"tokenizer__ggml__tokens": []}, "tokenizer.ggml.tokens: expected at least one token"),
        (
            {"tokenizer__ggml__token_type": [1]},
            "tokenizer.ggml.token_type: expected 263 entries, one per token",
        ),
        ({"tokenizer__ggml__merges": ["ab"]}, "tokenizer.ggml.merges: entry 0: expected two tokens"),
        ({"tokenizer__ggml__model": "llama"}, "tokenizer.ggml.scores: the key is missing"),
    ],
)
def test_other_vocabularies_are_rejected(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(PruneError) as error:
        plan(byte_keys(**changes), tmp_path, "a")
    assert message in str(error.value)


def test_requests_without_a_text_are_rejected() -> None:
    with pytest.raises(InvalidArgumentError, match="name at least one of vi, en, code, or a file"):
        plan_pruning(byte_keys(), [])
    with pytest.raises(InvalidArgumentError, match="expected one of vi, en, code, got 'fr'"):
        plan_pruning(byte_keys(), ["vi", "fr"])


def test_tensors_with_a_row_for_each_token() -> None:
    vocabulary = view_of(byte_keys())
    names = ["token_embd.weight", "output.weight", "output.bias", "per_layer_token_embd.weight"]
    assert all(has_token_rows(name, 263, vocabulary) for name in names)
    assert not any(
        has_token_rows(name, 263, vocabulary) for name in ["blk.0.attn_output.weight", "cls.weight"]
    )
    with pytest.raises(PruneError, match=r"tensor output\.weight: expected 263 rows.*got 264"):
        has_token_rows("output.weight", 264, vocabulary)
