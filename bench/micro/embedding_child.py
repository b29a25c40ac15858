"""`python -m binhdan.bench.micro.embedding_child ENGINE CASE`: times embeddings in its own process.

ENGINE: binhdan, binhdan:ISA or llama-cpp-python. Prints an EmbeddingTrial as JSON. Loading is not timed, and
the texts are embedded once before the timed pass.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import binhdan
from binhdan.bench.micro import llama_cpp
from binhdan.runtime.ffi import library


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingCase:
    """Texts that are embedded in one call."""

    model: Path
    threads: int
    texts: list[str]

    def to_json(self) -> str:
        return json.dumps(asdict(self) | {"model": str(self.model)})

    @staticmethod
    def from_json(text: str) -> EmbeddingCase:
        fields = json.loads(text)
        return EmbeddingCase(**fields | {"model": Path(fields["model"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingTrial:
    """One pass over all texts."""

    seconds: float
    version: str
    instruction_sets: str  # the engine's own names; "" when it does not print them


def run(engine: str, case: EmbeddingCase) -> EmbeddingTrial:
    """Raises BinhdanError."""
    name, _, isa = engine.partition(":")
    if name == "binhdan":
        with binhdan.load(case.model, threads=case.threads, isa=isa or None) as model:
            seconds = _time(lambda: model.embed(case.texts), len(case.texts))
            return EmbeddingTrial(
                seconds=seconds, version=library().version(), instruction_sets=model.info.isa
            )
    lib = llama_cpp.module()
    embedder = llama_cpp.Embedder(case.model, threads=case.threads)
    seconds = _time(lambda: embedder.embed(case.texts), len(case.texts))
    return EmbeddingTrial(
        seconds=seconds, version=lib.__version__, instruction_sets=llama_cpp.instruction_sets()
    )


def _time(embed: Callable[[], list[list[float]]], count: int) -> float:
    embed()
    start = time.perf_counter()
    vectors = embed()
    seconds = time.perf_counter() - start
    if len(vectors) != count:
        raise binhdan.BinhdanError(f"expected {count} embeddings, got {len(vectors)}")
    return seconds


if __name__ == "__main__":
    try:
        case = EmbeddingCase.from_json(Path(sys.argv[2]).read_text(encoding="utf-8"))
        print(json.dumps(asdict(run(sys.argv[1], case))))
    except Exception as error:
        sys.exit(str(error))
