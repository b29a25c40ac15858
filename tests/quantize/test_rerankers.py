"""Rerankers: checkpoints with a classifier, converted; scores of the float64 oracle and of transformers."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import tiny_tokenizers
import tokenizers
from quantize_helpers import edit_json, keys_of
from reference_forward import ReferenceModel
from tiny_checkpoints import family_tensors, goldens
from tiny_models import write_safetensors
from tokenizers import processors

import binhdan
from binhdan.quantize.checkpoint import CheckpointError
from binhdan.quantize.convert import convert

KINDS: Final = ("bert", "xlm-roberta")
QUERY: Final = "thủ đô của Việt Nam"
DOCUMENTS: Final = ("Hà Nội là thủ đô của Việt Nam.", "Trăm năm trong cõi người ta", "người", "thành phố Huế")


@cache  # training is not deterministic
def pair_tokenizer(kind: str) -> tokenizers.Tokenizer:
    """With the template of pairs that transformers' tokenizers of the kind have."""
    bert = kind == "bert"
    tokenizer = tiny_tokenizers.bert(True) if bert else tiny_tokenizers.xlm_roberta()
    first, last = ("[CLS]", "[SEP]") if bert else ("<s>", "</s>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first} $A {last} $B:1 {last}:1" if bert else f"{first} $A {last} {last} $B {last}",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (first, last)],
    )
    return tokenizer


def write_reranker(folder: Path, kind: str, labels: int = 1) -> Path:
    """A checkpoint with random weights; its names and shapes are those of transformers."""
    folder.mkdir()
    tokenizer = pair_tokenizer(kind)
    golden = goldens()["bert" if kind == "bert" else "xlm-roberta-rank"]
    shapes: dict[str, list[int]] = dict(golden["tensors"])
    config: dict[str, Any] = golden["config"] | {"vocab_size": tokenizer.get_vocab_size()}
    config["id2label"] = {str(i): f"LABEL_{i}" for i in range(labels)}
    config["label2id"] = {f"LABEL_{i}": i for i in range(labels)}
    if kind == "bert":
        config["architectures"] = ["BertForSequenceClassification"]
        shapes = {f"bert.{name}": shape for name, shape in shapes.items()}
        shapes |= {"classifier.weight": [labels, config["hidden_size"]], "classifier.bias": [labels]}
    for name, shape in shapes.items():
        if "word_embeddings" in name:
            shapes[name] = [config["vocab_size"], shape[1]]
    write_safetensors(folder / "model.safetensors", family_tensors(shapes))
    first, last = ("[CLS]", "[SEP]") if kind == "bert" else ("<s>", "</s>")
    special = {"cls_token": first, "bos_token": first, "sep_token": last, "eos_token": last}
    if kind == "bert":
        special = {"cls_token": first, "sep_token": last, "pad_token": "[PAD]", "unk_token": "[UNK]"}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(special), "utf-8")
    (folder / "tokenizer.json").write_text(tokenizer.to_str(), "utf-8")
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_scores_equal_those_of_the_oracle(kind: str, tmp_path: Path) -> None:
    checkpoint, out = write_reranker(tmp_path / "in", kind), tmp_path / "out.gguf"
    convert(checkpoint, out, "f32")
    assert keys_of(out)["bert.pooling_type"] == 4
    oracle, tokenizer = ReferenceModel(out), pair_tokenizer(kind)
    with binhdan.load(out, threads=1) as model:
        assert model.info.pooling == "rank" and not model.info.causal
        scores = model.rerank(QUERY, DOCUMENTS)
        for document, score in zip(DOCUMENTS, scores, strict=True):
            tokens = tokenizer.encode(QUERY, document).ids
            assert list(model.tokenizer.pair_prompt(QUERY, document).tokens) == tokens
            assert score == pytest.approx(1 / (1 + np.exp(-oracle.pooled(tokens)[0])), abs=1e-5)
    assert max(scores) - min(scores) > 1e-3  # the documents differ


@pytest.mark.parametrize("kind", KINDS)
def test_scores_equal_those_of_transformers(kind: str, tmp_path: Path) -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    checkpoint, out = write_reranker(tmp_path / "in", kind), tmp_path / "out.gguf"
    convert(checkpoint, out, "f32")
    reranker = transformers.AutoModelForSequenceClassification.from_pretrained(
        checkpoint, dtype=torch.float32
    )
    tokenizer = pair_tokenizer(kind)
    with binhdan.load(out, threads=1) as model, torch.inference_mode():
        for document, score in zip(DOCUMENTS, model.rerank(QUERY, DOCUMENTS), strict=True):
            encoded = tokenizer.encode(QUERY, document)
            types = encoded.type_ids if kind == "bert" else [0] * len(encoded.ids)
            first = 0 if kind == "bert" else reranker.config.pad_token_id + 1
            logits = reranker(
                torch.tensor([encoded.ids]),
                token_type_ids=torch.tensor([types]),
                position_ids=torch.arange(first, first + len(types))[None],
            ).logits
            assert score == pytest.approx(torch.sigmoid(logits).item(), abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_classifier_of_several_classes_is_refused(kind: str, tmp_path: Path) -> None:
    checkpoint = write_reranker(tmp_path / "in", kind, labels=3)
    with pytest.raises(CheckpointError, match=r"id2label: expected one class, .* got 3"):
        convert(checkpoint, tmp_path / "out.gguf", "f32")
    edit_json(checkpoint / "config.json", id2label=None)
    with pytest.raises(CheckpointError, match=r"expected one class, .* got 2"):
        convert(checkpoint, tmp_path / "out.gguf", "f32")
