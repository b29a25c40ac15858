"""Compares the perplexity of this engine with that of llama.cpp, on the same file and tokens.

    python tests/perplexity.py --model FILE [--text FILE] [--tokens 3000]

The text is cut into contexts of 1,024 tokens. A context starts with the start token if the model adds
one. Every token
but the first of a context is predicted.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

import binhdan
from binhdan import _native
from binhdan.bench.micro import llama_cpp
from binhdan.bench.micro.case import Case
from binhdan.runtime.ffi import library
from binhdan.runtime.options import LoadOptions

TEXT: Final = Path(__file__).parent / "data/van_ban.txt"
CONTEXT: Final = 1024  # longer than the window of Gemma 3

Logits = Callable[[list[int]], npt.NDArray[Any]]  # tokens → (tokens, vocabulary)


def contexts(model: binhdan.Model, text: str, tokens: int) -> Iterator[list[int]]:
    """The first `tokens` tokens of `text` in contexts of at most CONTEXT, each with the start token."""
    ids = model.tokenize(text, add_special=True)
    start = ids[:1] if ids[0] == model.info.bos else []
    ids = ids[len(start) : len(start) + tokens]
    step = CONTEXT - len(start)
    for begin, end in pairwise([*range(0, len(ids), step), len(ids)]):
        yield start + ids[begin:end]


def perplexity(logits: Logits, texts: list[list[int]]) -> float:
    """exp of the mean negative log-likelihood of all tokens but the first of each text."""
    total = 0.0
    for tokens in texts:
        for row, token in zip(logits(tokens)[:-1], tokens[1:], strict=True):
            shifted = row.astype(np.float64) - row.max()
            total += float(np.log(np.exp(shifted).sum()) - shifted[token])
    return float(np.exp(total / sum(len(tokens) - 1 for tokens in texts)))


def our_perplexity(file: Path, texts: list[list[int]], isa: str = "", decode: bool = False) -> float:
    handle = library().open_model(str(file), LoadOptions(isa=isa))
    try:
        return perplexity(lambda tokens: _native.logits(handle, np.array(tokens, np.int32), 0, decode), texts)
    finally:
        library().close_model(handle)


def llama_cpp_perplexity(file: Path, texts: list[list[int]]) -> float:
    cores = library().usable_cores()
    passes = llama_cpp.ForwardPasses(Case(model=file, threads=cores, prompt=CONTEXT, decode=1))
    return perplexity(passes.logits, texts)


def texts_of(file: Path, text: str, tokens: int) -> list[list[int]]:
    with binhdan.load(file, threads=1) as model:
        return list(contexts(model, text, tokens))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--text", type=Path, default=TEXT, help="UTF-8 text")
    parser.add_argument("--tokens", type=int, default=3000)
    options = parser.parse_args()
    texts = texts_of(options.model, options.text.read_text("utf-8"), options.tokens)
    print(f"{options.model.name}: {sum(map(len, texts)):,} tokens in {len(texts)} contexts")
    ours = our_perplexity(options.model, texts)
    print(f"binhdan    {ours:.3f}", flush=True)
    if llama_cpp.installed():
        theirs = llama_cpp_perplexity(options.model, texts)
        print(f"llama.cpp  {theirs:.3f}  ratio {ours / theirs:.4f}")


if __name__ == "__main__":
    main()
