"""Embeddings by the core from tokens, without a tokenizer."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from binhdan.runtime.ffi import library
from binhdan.runtime.options import EmbeddingOptions, LoadOptions, Pooling


def embed_tokens(
    model: int, tokens: list[int], pooling: Pooling | None = None, threads: int = 2
) -> npt.NDArray[np.float64]:
    """Returns the embedding of an open model, scaled to length 1. ``pooling``: None for that of the file."""
    core = library()
    engine = core.create_engine(model, LoadOptions(threads=threads))
    queue = core.create_queue(engine)
    try:
        core.submit_embedding(engine, queue, tokens, EmbeddingOptions(pooling=pooling))
        event = core.next_event(queue, 60_000)
        assert event is not None and event.kind == "embedding", event
        return np.array(event.values)
    finally:
        core.close_queue(queue)
        core.close_engine(engine)


def cosine_distance(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    return float(1 - a @ b / np.sqrt((a @ a) * (b @ b)))
