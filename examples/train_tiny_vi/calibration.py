"""Writes text like that of the training, for `binhdan quantize --text`.

python -m train_tiny_vi.calibration train_tiny_vi/config.toml calibration.txt [--size 250000]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from random import Random

from train_tiny_vi.config import read_config
from train_tiny_vi.corpus import read_documents
from train_tiny_vi.mixture import examples
from train_tiny_vi.tasks.example import Example

_DOCUMENTS, _LONGEST, _SEED = 1500, 300, 99


def as_text(item: str | Example) -> str:
    """An example in ChatML, or the start of a plain document."""
    if isinstance(item, str):
        return item[: 2 * _LONGEST]
    return f"<|im_start|>user\n{item.question}<|im_end|>\n<|im_start|>assistant\n{item.answer}<|im_end|>"


def main() -> None:
    parser = argparse.ArgumentParser(description="Write text for `binhdan quantize --text`.")
    parser.add_argument("config", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--size", type=int, default=250_000, help="characters")
    options = parser.parse_args()
    config = read_config(options.config)
    documents = list(read_documents(config.documents("train")))
    sample = Random(_SEED).sample(documents, min(_DOCUMENTS, len(documents)))
    texts = [as_text(item) for item in examples(sample, config.mixture, _LONGEST, 0.5, _SEED)]
    Random(_SEED).shuffle(texts)
    options.output.write_text("\n".join(texts)[: options.size], encoding="utf-8")


if __name__ == "__main__":
    main()
