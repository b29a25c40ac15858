"""Packs documents and tasks into rows of tokens.

    python -m train_tiny_vi.pack train_tiny_vi/config.toml

Writes two arrays per stage: tokens (rows, context + 1), uint16, and the loss mask, uint8: 1 for a token with
a loss. A row contains whole examples, each ended by <|endoftext|>, and padding without loss. Answers have a
loss, questions have none. Long plain documents are split.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from random import Random

import numpy as np
from tokenizers import Tokenizer

from train_tiny_vi.config import read_config
from train_tiny_vi.corpus import read_documents
from train_tiny_vi.mixture import examples
from train_tiny_vi.rows import Item, fill_rows
from train_tiny_vi.tasks.example import Example
from train_tiny_vi.tokenizer import chat_ids, load_tokenizer


def encode_items(stream: Iterable[str | Example], tokenizer: Tokenizer, longest: int) -> Iterator[Item]:
    """Yields each item's tokens, at most `longest`: omits longer examples, splits longer documents."""
    newline, head = tokenizer.encode("\n").ids, tokenizer.encode("assistant\n").ids
    assert chat_ids(tokenizer, "x")[-len(head) - 1 :] == [1, *head]
    source = iter(stream)
    while batch := list(islice(source, 2048)):
        plain = [item for item in batch if isinstance(item, str)]
        tasks = [item for item in batch if isinstance(item, Example)]
        for encoded in tokenizer.encode_batch(plain, add_special_tokens=False):
            ids = [*encoded.ids, 0]
            for start in range(0, len(ids), longest):
                yield np.array(ids[start : start + longest], np.uint16), 0
        users = tokenizer.encode_batch([f"user\n{e.question}" for e in tasks], add_special_tokens=False)
        answers = tokenizer.encode_batch([e.answer for e in tasks], add_special_tokens=False)
        for user, answer in zip(users, answers, strict=True):
            prompt = [1, *user.ids, 2, *newline, 1, *head]
            ids = [*prompt, *answer.ids, 2, 0]
            if len(ids) <= longest:
                yield np.array(ids, np.uint16), len(prompt)


def main() -> None:
    config = read_config(Path(sys.argv[1]))
    tokenizer = load_tokenizer(config.tokenizer)
    documents = list(read_documents(config.documents("train")))
    for number, stage in enumerate(config.stages):
        mixture = config.mixture
        if stage.talk is not None:
            mixture = replace(mixture, talk=stage.talk)
        kinds: Counter[str] = Counter()

        def counted(stream: Iterable[str | Example], kinds: Counter[str] = kinds) -> Iterator[str | Example]:
            for item in stream:
                kinds["plain" if isinstance(item, str) else "task"] += 1
                yield item

        items: list[Item] = []
        for epoch in range(config.mixture.passes):
            seed = config.mixture.seed * 1000 + number * 100 + epoch
            stream = examples(documents, mixture, stage.longest, stage.share, seed)
            items += encode_items(counted(stream), tokenizer, stage.context + 1)
        Random(config.mixture.seed).shuffle(items)
        tokens, mask = fill_rows(items, stage.context + 1)
        np.save(config.shard(number, "tokens"), tokens)
        np.save(config.shard(number, "mask"), mask)
        used = sum(len(ids) for ids, _ in items)
        print(f"stage {number}: {len(items):,} items {dict(kinds)}, {used:,} tokens")
        print(
            f"    {len(tokens):,} rows, {used / tokens.size:.1%} full, {mask.mean():.1%} with loss",
            flush=True,
        )


if __name__ == "__main__":
    main()
