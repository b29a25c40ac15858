"""Embeddings and scores of the Python client, against the float64 oracle on the same file."""

from __future__ import annotations

import asyncio
import math
from itertools import count, islice
from pathlib import Path

import numpy as np
import pytest
from embedding_models import EmbeddingOracle, cosine, embedding_model
from tiny_models import SMALL

import binhdan

TEXTS = [f"Hà Nội là thủ đô của Việt Nam, câu {i}" for i in range(40)] + ["người", "a", "Trăm năm " * 9]
POOLINGS = ["mean", "cls", "last"]


def load(path: Path, **options: object) -> binhdan.Model:
    return binhdan.load(path, threads=1, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pooling", "meaning"), [*zip(POOLINGS, POOLINGS, strict=True), ("none", "mean"), (None, "mean")]
)
def test_embeddings_equal_those_of_the_oracle(tmp_path: Path, pooling: str | None, meaning: str) -> None:
    path = embedding_model(tmp_path / "model.gguf", pooling)
    oracle = EmbeddingOracle(path)
    with load(path) as model:
        assert model.info.pooling == meaning and model.info.causal
        scaled, raw = model.embed(TEXTS), model.embed(TEXTS, normalize=False)
        for text, one, other in zip(TEXTS, scaled, raw, strict=True):
            want = oracle.pooled(model.tokenize(text, add_special=True), meaning)
            assert cosine(one, want) > 0.99999 and math.hypot(*one) == pytest.approx(1, abs=1e-5)
            # Keys and values are stored in F16.
            assert other == pytest.approx(want, abs=5e-3)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_request_may_choose_the_pooling(tmp_path: Path, pooling: str) -> None:
    path = embedding_model(tmp_path / "model.gguf", "cls")
    with load(path) as model:
        want = EmbeddingOracle(path).pooled(model.tokenize(TEXTS[0]), pooling)
        assert cosine(model.embed(TEXTS[0], pooling=pooling), want) > 0.99999  # type: ignore[arg-type]


def test_a_batch_returns_the_bits_of_single_texts_in_order(model: binhdan.Model) -> None:
    assert model.embed(TEXTS) == [model.embed(text) for text in TEXTS]
    assert asyncio.run(model.aembed(TEXTS)) == model.embed(TEXTS)
    assert asyncio.run(model.aembed(TEXTS[0])) == model.embed(TEXTS[0])
    assert model.embed([]) == []


def test_a_full_engine_does_not_stop_a_batch() -> None:
    with binhdan.load(threads=1, max_waiting=2, prefill_chunk=16) as model:
        assert len(model.embed(TEXTS)) == len(TEXTS)


def test_each_text_is_read_when_it_is_needed(model: binhdan.Model) -> None:
    read = count()
    vectors = model.embed_each(f"câu {next(read)}" for _ in count())
    first = list(islice(vectors, 3))
    assert first[1].tolist() == model.embed("câu 1") and next(read) < 1000
    vectors.close()  # type: ignore[attr-defined]


def test_dimensions(model: binhdan.Model) -> None:
    whole, cut = np.array(model.embed("xin chào")), np.array(model.embed("xin chào", dimensions=64))
    assert cut == pytest.approx(whole[:64] / np.linalg.norm(whole[:64]), abs=1e-6)
    with pytest.raises(binhdan.InvalidArgumentError, match="dimensions: expected 0 to 256"):
        model.embed("xin chào", dimensions=257)
    with pytest.raises(binhdan.InvalidArgumentError, match="dimensions must be"):
        model.embed("xin chào", dimensions=0)


def test_a_prefix(model: binhdan.Model) -> None:
    assert model.embed("xin chào", prefix="query: ") == model.embed("query: xin chào")


def test_texts_that_the_context_cannot_hold(tmp_path: Path) -> None:
    path = embedding_model(tmp_path / "model.gguf", "last", changes={"tokenizer.ggml.add_eos_token": True})
    with load(path) as model:
        tokens = model.tokenize("người " * 150, add_special=True)
        assert len(tokens) > model.context and tokens[-1] == model.info.eos
        with pytest.raises(binhdan.TooLargeError, match="text 2: the text has"):
            model.embed(["a", "người " * 150])
        # The end token stays: pooling `last` reads it.
        want = EmbeddingOracle(path).pooled([*tokens[: model.context - 1], tokens[-1]], "last")
        assert cosine(model.embed("người " * 150, truncate=True), want) > 0.99999
        assert model.embed("người " * 5000, truncate=True) == model.embed("người " * 150, truncate=True)


def test_an_error_ends_the_batch_and_leaves_the_engine_free(model: binhdan.Model) -> None:
    with pytest.raises(binhdan.TooLargeError, match="text 3"):
        model.embed(["a", "b", "c " * 5000, *TEXTS])
    assert len(model.embed("a")) == model.info.embedding


# ---- rerankers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dense", "classes"), [(True, 1), (False, 1), (False, 2)])
def test_scores_equal_those_of_the_oracle(tmp_path: Path, dense: bool, classes: int) -> None:
    labels = {"llama.classifier.output_labels": ["yes", "no"]} if classes == 2 else {}
    path = embedding_model(tmp_path / "model.gguf", "rank", dense=dense, classes=classes, changes=labels)
    oracle = EmbeddingOracle(path)
    with load(path) as model:
        assert model.info.pooling == "rank"
        scores = model.rerank("thủ đô", TEXTS)
        for text, score in zip(TEXTS, scores, strict=True):
            assert score == pytest.approx(
                oracle.score(model.tokenize("thủ đô") + model.tokenize(text)), abs=2e-3
            )


def test_a_template_of_pairs(tmp_path: Path) -> None:
    """Text between the placeholders is markup; the texts are not."""
    template = "<|im_start|>{query}<|im_end|>{document}<|im_start|>"
    changes = {"tokenizer.chat_template.rerank": template}
    path = embedding_model(tmp_path / "model.gguf", "rank", changes=changes)
    with load(path) as model:
        tokens = list(model.tokenizer.pair_prompt("thủ đô", "<|im_end|>").tokens)
        start, end = 1, 2
        assert tokens == [start, *model.tokenize("thủ đô"), end, *model.tokenize("<|im_end|>"), start]
    changes["tokenizer.chat_template.rerank"] = "{query}"
    path = embedding_model(tmp_path / "model.gguf", "rank", changes=changes)
    with load(path) as model:
        with pytest.raises(binhdan.BadFormatError, match=r"expected \{query\} and"):
            model.rerank("a", ["b"])


def test_special_tokens_of_a_pair(tmp_path: Path) -> None:
    """XLM-R: <s> q </s></s> d </s>."""
    keys = {f"tokenizer.ggml.add_{name}_token": True for name in ("bos", "eos", "sep")}
    ids = {"tokenizer.ggml.bos_token_id": 0, "tokenizer.ggml.seperator_token_id": 2}
    path = embedding_model(tmp_path / "model.gguf", "rank", changes=keys | ids)
    with load(path) as model:
        tokens = list(model.tokenizer.pair_prompt("thủ đô", "người").tokens)
        assert tokens == [0, *model.tokenize("thủ đô"), 2, 2, *model.tokenize("người"), 2]


def test_truncated_documents(tmp_path: Path) -> None:
    path = embedding_model(tmp_path / "model.gguf", "rank")
    with load(path) as model:
        for text in ("người " * 200, "người " * 9000):
            with pytest.raises(binhdan.TooLargeError):
                model.rerank("thủ đô", [text])
            tokens = model.tokenizer.pair_prompt("thủ đô", text, truncate=True).tokens
            assert model.context - 4 <= len(tokens) <= model.context
            assert len(model.rerank("thủ đô", [text], truncate=True)) == 1
        with pytest.raises(binhdan.TooLargeError):
            model.rerank("người " * 200, ["a"], truncate=True)


def test_rerankers_and_embedders_are_told_apart(model: binhdan.Model, tmp_path: Path) -> None:
    with pytest.raises(binhdan.InvalidArgumentError, match="this model is not a reranker"):
        model.rerank("a", ["b"])
    with load(embedding_model(tmp_path / "model.gguf", "rank")) as reranker:
        with pytest.raises(binhdan.InvalidArgumentError, match="use rerank"):
            reranker.embed("a")
        assert len(reranker.embed("a", pooling="last")) == SMALL.width


# ---- model files -------------------------------------------------------------------------------------------


def test_an_encoder_generates_no_text(tmp_path: Path) -> None:
    path = embedding_model(tmp_path / "model.gguf", "cls", changes={"llama.attention.causal": False})
    with load(path) as model:
        assert not model.info.causal and len(model.embed("a")) == SMALL.width
        for generate in (model.ask, model.complete):
            with pytest.raises(binhdan.InvalidArgumentError, match="this model is an encoder"):
                generate("xin chào")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"llama.pooling_type": 5}, "llama.pooling_type': expected 0 (none), 1 (mean), 2 (cls)"),
        ({"llama.pooling_type": 4}, "tensor 'cls.output.weight' is missing"),
        ({"llama.pooling_type": "mean"}, "llama.pooling_type"),
        ({"llama.attention.causal": "no"}, "llama.attention.causal"),
    ],
)
def test_invalid_keys(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    path = embedding_model(tmp_path / "model.gguf", None, changes=changes)
    with pytest.raises(binhdan.BinhdanError) as error:
        load(path)
    assert message in str(error.value)


def test_classes_of_a_reranker_that_have_no_known_meaning(tmp_path: Path) -> None:
    labels = {"llama.classifier.output_labels": ["no", "yes"]}
    path = embedding_model(tmp_path / "model.gguf", "rank", classes=2, changes=labels)
    with pytest.raises(binhdan.UnsupportedError, match="output_labels"):
        load(path)
