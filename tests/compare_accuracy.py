"""Compares this engine and llama.cpp with the float64 oracle, on the same file and text.

    python tests/compare_accuracy.py [--model FILE] [--text FILE]

For each kernel table and numeric class, and for the installed llama-cpp-python, prints the mean KL divergence
of the next-token distribution from the oracle's, and its ratio to that of llama.cpp with the 95 % interval of
a paired bootstrap. The oracle holds the model in float64: use small models only.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from reference_forward import Array, ReferenceModel, divergences, top1_agreement

from binhdan import _native
from binhdan.bench.micro.case import Case
from binhdan.bench.micro.llama_cpp import ForwardPasses
from binhdan.runtime.client.model import embedded_model
from binhdan.runtime.ffi import library
from binhdan.runtime.options import LoadOptions

TEXT = Path(__file__).parent / "data/van_ban.txt"

Logits = npt.NDArray[Any]
MAX_TOKENS = 256  # of one text
# Neighbouring positions share their context, so the bootstrap draws them in blocks.
BLOCK = 16


def tokenized(model: Path, texts: list[str]) -> list[list[int]]:
    handle = library().open_model(str(model), LoadOptions())
    try:
        return [library().tokenize(handle, text.encode())[:MAX_TOKENS] for text in texts]
    finally:
        library().close_model(handle)


def ratio_interval(ours: Array, theirs: Array, draws: int = 10_000) -> tuple[float, float, float]:
    """Returns mean(ours) / mean(theirs) and its 95 % interval; both share the blocks of the bootstrap."""
    whole = len(ours) // BLOCK * BLOCK
    a, b = (x[:whole].reshape(-1, BLOCK).sum(axis=1) for x in (ours, theirs))
    drawn = np.random.default_rng(0).integers(0, len(a), (draws, len(a)))
    low, high = np.quantile(a[drawn].sum(axis=1) / b[drawn].sum(axis=1), (0.025, 0.975))
    return float(ours.mean() / theirs.mean()), float(low), float(high)


def our_logits(model: Path, isa: str, decode: bool, texts: list[list[int]]) -> Logits:
    handle = library().open_model(str(model), LoadOptions(isa=isa))
    try:
        each = [_native.logits(handle, np.array(tokens, np.int32), 0, decode) for tokens in texts]
        return np.concatenate(each)
    finally:
        library().close_model(handle)


def llama_cpp_logits(model: Path, texts: list[list[int]]) -> Logits:
    passes = ForwardPasses(Case(model=model, threads=library().usable_cores(), prompt=MAX_TOKENS, decode=1))
    return np.concatenate([passes.logits(tokens) for tokens in texts])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=embedded_model())
    parser.add_argument("--text", type=Path, default=TEXT, help="one text per line")
    options = parser.parse_args()
    texts = tokenized(options.model, options.text.read_text("utf-8").splitlines())
    oracle = ReferenceModel(options.model)
    expected = np.concatenate([oracle.logits(tokens) for tokens in texts])
    theirs = llama_cpp_logits(options.model, texts)
    their_kl = divergences(expected, theirs)

    def report(name: str, got: Logits) -> None:
        kl, agree = divergences(expected, got), top1_agreement(expected, got)
        ratio, low, high = ratio_interval(kl, their_kl)
        print(f"{name:24}  {kl.mean():.2e}  {agree:6.1%}  {ratio:.2f} ({low:.2f} to {high:.2f})", flush=True)

    print(f"{options.model.name}, {len(expected)} positions")
    print(f"{'':24}  {'mean KL':8}  top-1   ratio to llama.cpp")
    report("llama.cpp", theirs)
    for isa in _native.isas():
        for decode in (False, True):
            name = f"{isa}, {'decode' if decode else 'prefill'}"
            report(name, our_logits(options.model, isa, decode, texts))


if __name__ == "__main__":
    main()
