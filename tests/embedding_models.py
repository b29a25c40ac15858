"""Tiny models with a pooling type, and their embeddings from the oracle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf_edit import with_metadata
from reference_forward import ReferenceModel
from tiny_models import SMALL, Shape, uniform, write_gguf

POOLING_TYPES = {"none": 0, "mean": 1, "cls": 2, "last": 3, "rank": 4}


def embedding_model(
    path: Path,
    pooling: str | None,
    shape: Shape = SMALL,
    *,
    dense: bool = True,
    classes: int = 1,
    changes: dict[str, Any] | None = None,
) -> Path:
    """Writes a tiny decoder with this pooling; None: without the key. A reranker gets a classifier, with a
    dense layer if `dense`. Returns `path`."""
    plain = write_gguf(path.with_suffix(".plain.gguf"), shape)
    keys = dict(changes or {})
    if pooling is not None:
        keys[f"{shape.architecture}.pooling_type"] = POOLING_TYPES[pooling]
    return with_metadata(plain, path, keys, classifier(shape, dense, classes) if pooling == "rank" else None)


def classifier(shape: Shape, dense: bool, classes: int) -> dict[str, npt.NDArray[np.float32]]:
    """The tensors of the head of a reranker."""
    d = shape.width
    tensors = {"cls.output.weight": uniform("cls.output", (classes, d), 0.5)}
    tensors["cls.output.bias"] = uniform("cls.output.bias", (classes,), 0.5)
    if dense:
        tensors["cls.weight"] = uniform("cls", (d, d), 0.2)
        tensors["cls.bias"] = uniform("cls.bias", (d,), 0.5)
    return tensors


class EmbeddingOracle:
    """The final hidden states of a file in float64, and what is made of them."""

    def __init__(self, path: Path) -> None:
        self._model = ReferenceModel(path)
        width = self._model.weights["token_embd.weight"].shape[1]
        # With this output matrix the logits are the final hidden states.
        self._model.weights["output.weight"] = np.eye(width)

    def hidden(self, tokens: list[int]) -> npt.NDArray[np.float64]:
        """(tokens, width)"""
        return self._model.logits(tokens)

    def pooled(self, tokens: list[int], pooling: str) -> npt.NDArray[np.float64]:
        """(width,), not scaled."""
        hidden = self.hidden(tokens)
        return {"mean": hidden.mean(axis=0), "cls": hidden[0], "last": hidden[-1]}[pooling]

    def score(self, tokens: list[int]) -> float:
        """The score of a reranker, 0 to 1: the sigmoid of a logit, or of the difference of two."""
        w = self._model.weights
        x = self.hidden(tokens)[-1]
        if "cls.weight" in w:
            x = np.tanh(w["cls.weight"] @ x + w["cls.bias"])
        logits = w["cls.output.weight"] @ x + w["cls.output.bias"]
        return float(1 / (1 + np.exp(-(logits[0] if len(logits) == 1 else logits[0] - logits[1]))))


def cosine(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))
