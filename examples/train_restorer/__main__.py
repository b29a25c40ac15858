"""python -m train_restorer config.toml restore-vi.bin: text -> the n-gram file of `binhdan restore`."""

from __future__ import annotations

import argparse
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train_restorer.file import Bits, build
from train_restorer.ngrams import count, estimate, prune
from train_restorer.tokens import END, FIRST_FORM, MARK, Corpus, bare_ids, drop_rare, read

_CAPITAL_PRIOR = 5.0  # occurrences


def capital_factor(corpus: Corpus) -> NDArray[np.float64]:
    """P(capital | form) / P(capital), for words that start no sentence."""
    before = np.concatenate([[END], corpus.ids[:-1]])
    inside = (before != END) & (before != MARK) & (corpus.ids >= FIRST_FORM)
    size = FIRST_FORM + len(corpus.forms)
    total = np.bincount(corpus.ids[inside], minlength=size)
    capitals = np.bincount(corpus.ids[inside & corpus.capital], minlength=size)
    mean = max(capitals.sum(), 1) / max(total.sum(), 1)
    factor = (capitals + _CAPITAL_PRIOR * mean) / (total + _CAPITAL_PRIOR) / mean
    factor[:FIRST_FORM] = 1
    return factor


def make(config: dict[str, Any], folder: Path, without: tuple[int, int] | None = None) -> bytes:
    """The n-gram file. config: as config.toml; its paths are relative to `folder`.

    without (part, parts): the documents part, part + parts, ... are not counted.
    """
    files = [folder / name for name in config["text"]["files"]]
    corpus = drop_rare(read(files, config["weights"]), config["lexicon"]["min_count"])
    model = config["model"]
    used = np.ones(len(corpus.ids), bool)
    if without is not None:
        used = corpus.documents % without[1] != without[0]
    counts = count(corpus.ids[used], corpus.weights[used], len(model["entries"]) + 1)
    orders = prune(estimate(counts, model["discounts"]), counts, model["entries"], bare_ids(corpus.forms))
    card = {
        "name": config["text"]["name"],
        "licence": config["text"]["licence"],
        "sources": config["text"]["sources"],
        "tokens": corpus.registers,
        "weights": config["weights"],
        "forms": len(corpus.forms),
        "n-grams": [len(order.keys) for order in orders],
    }
    factor = capital_factor(corpus) ** model["capital_weight"]
    bits = [Bits(*widths) for widths in model["bits"]]
    return build(orders, corpus.forms, factor, bits, model["other_penalty"], card)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument(
        "--without", type=int, nargs=2, metavar=("PART", "PARTS"), help="leave out a part of the documents"
    )
    arguments = parser.parse_args()
    config = tomllib.loads(arguments.config.read_text(encoding="utf-8"))
    without = tuple(arguments.without) if arguments.without else None
    data = make(config, arguments.config.parent, without)
    arguments.output.write_bytes(data)
    print(f"{arguments.output}: {len(data):,} bytes")


if __name__ == "__main__":
    main()
