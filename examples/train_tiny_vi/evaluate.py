"""Evaluates a checkpoint on documents outside the training data, for each folder of data.

    python -m train_tiny_vi.evaluate train_tiny_vi/config.toml [WEIGHTS] [--count 500]

WEIGHTS is the folder of a Hugging Face checkpoint or a GGUF file; default: the state of the run. Prints a
table and a line of JSON for each folder.
"""

from __future__ import annotations

import argparse
import difflib
import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from train_tiny_vi.checkpoints import load_run, load_weights
from train_tiny_vi.config import read_config
from train_tiny_vi.corpus import Document, read_documents
from train_tiny_vi.generate import MarksOnly, answer
from train_tiny_vi.model import TinyModel, summed_loss
from train_tiny_vi.tasks.extract import PHRASINGS as EXTRACT
from train_tiny_vi.tasks.extract import extract
from train_tiny_vi.tasks.spelling import PHRASINGS as SPELLING
from train_tiny_vi.tasks.spelling import make_errors
from train_tiny_vi.text import WORD, place_tones, sentences, strip_marks
from train_tiny_vi.tokenizer import load_tokenizer
from train_tiny_vi.train import build


def unseen_sentences(documents: Iterable[Document], count: int, seed: int = 7) -> list[str]:
    """Returns a fixed sample of `count` sentences of 30 to 200 characters with Vietnamese marks."""
    found = [
        s
        for d in documents
        for paragraph in d.paragraphs
        for s in sentences(paragraph)
        if 30 <= len(s) <= 200 and strip_marks(s) != s
    ]
    return Random(seed).sample(found, min(count, len(found)))


def bits_per_byte(
    model: TinyModel, tokenizer: Tokenizer, documents: Sequence[Document], context: int = 512
) -> float:
    """Returns bits per byte of the concatenated documents, in independent windows of `context` tokens."""
    encoded = tokenizer.encode_batch([d.text for d in documents], add_special_tokens=False)
    ids = np.array([i for e in encoded for i in (*e.ids, 0)], np.int64)
    count = (len(ids) - 1) // context
    rows = torch.from_numpy(np.stack([ids[i * context : (i + 1) * context + 1] for i in range(count)]))
    total = 0.0
    with torch.no_grad():
        for part in rows.split(8):  # type: ignore[no-untyped-call]
            hidden = model(part[:, :-1]).flatten(0, 1)
            total += summed_loss(model, hidden, part[:, 1:].flatten()).item()
    size = len(tokenizer.decode(rows[:, 1:].flatten().tolist()).encode())
    return total / size / math.log(2)


def syllable_hits(answer: str, reference: str) -> tuple[int, int]:
    """Returns the number of the reference's syllables that the answer has at their positions, and of all.

    Both styles of tone marks count as correct (hòa, hoà).
    """
    expected, got = (place_tones(text).split() for text in (reference, answer))
    pairs = (
        [(i, i, 1) for i in range(len(expected))]
        if len(expected) == len(got)
        else difflib.SequenceMatcher(None, expected, got, autojunk=False).get_matching_blocks()
    )
    right = {a + k for a, b, n in pairs for k in range(n) if expected[a + k] == got[b + k]}
    counted = [i for i, piece in enumerate(expected) if WORD.search(piece)]
    return sum(i in right for i in counted), len(counted)


class MostFrequent:
    """A baseline: restores each bare syllable to its most frequent form in the training text."""

    def __init__(self, documents: Iterable[Document]) -> None:
        counts: Counter[str] = Counter()
        for document in documents:
            counts.update(WORD.findall(place_tones(document.text).lower()))
        self.forms: dict[str, str] = {}
        for form in sorted(counts, key=counts.__getitem__, reverse=True):
            self.forms.setdefault(strip_marks(form), form)

    def restore(self, bare: str) -> str:
        def form(word: str) -> str:
            best = self.forms.get(word.lower(), word)
            return "".join(b.upper() if w.isupper() else b for w, b in zip(word, best, strict=True))

        return WORD.sub(lambda m: form(m.group()), bare)


def restoration(answers: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    hits = [syllable_hits(a, r) for a, r in zip(answers, references, strict=True)]
    right, all_ = (sum(part) for part in zip(*hits, strict=True))
    return {"syllables": right / all_, "sentences": sum(a == b for a, b in hits) / len(hits)}


def edits(source: str, target: str) -> set[tuple[int, int, str]]:
    """Returns the word edits that turn `source` into `target`: (begin, end, replacement)."""
    a, b = source.split(), target.split()
    codes = difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes()
    return {(i, j, " ".join(b[k:m])) for tag, i, j, k, m in codes if tag != "equal"}


def f1(pairs: Iterable[tuple[set[Any], set[Any]]]) -> float:
    """Returns F1, micro-averaged over pairs (got, expected)."""
    right = total = 0
    for got, expected in pairs:
        right, total = right + len(got & expected), total + len(got) + len(expected)
    return 2 * right / total if total else 1.0


def facts(text: str) -> set[tuple[str, str]] | None:
    """Returns the items of a JSON answer; None if it is invalid or has another schema."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    if not isinstance(value, dict) or not all(
        isinstance(items, list) and all(isinstance(item, str) for item in items) for items in value.values()
    ):
        return None
    return {(key, item) for key, items in value.items() for item in items}


def evaluate(
    model: TinyModel,
    tokenizer: Tokenizer,
    documents: Sequence[Document],
    baseline: MostFrequent,
    count: int,
) -> dict[str, float]:
    """Returns the figures of a model on `documents`. count: sentences."""
    sample = unseen_sentences(documents, count)
    bare = [strip_marks(s) for s in sample]
    out: dict[str, float] = {"sentences": len(sample)}
    out["bits per byte"] = bits_per_byte(model, tokenizer, documents)

    restored = restoration([baseline.restore(b) for b in bare], sample)
    out["syllables, most frequent form"] = restored["syllables"]
    questions = [f"Thêm dấu: {b}" for b in bare]
    free = restoration(answer(model, tokenizer, questions), sample)
    out |= {"syllables, free": free["syllables"], "whole sentences, free": free["sentences"]}
    marks = MarksOnly(tokenizer)
    rules = [marks.rule(b) for b in bare]
    constrained = restoration(answer(model, tokenizer, questions, allowed=rules), sample)
    out |= {
        "syllables, constrained": constrained["syllables"],
        "whole sentences, constrained": constrained["sentences"],
    }

    rng = Random(11)
    right = [place_tones(s) for s in sample[: count // 2]]
    wrong = [make_errors(rng, s) for s in right]
    fixed = answer(model, tokenizer, [SPELLING[0].format(w) for w in wrong])
    out["spelling F1"] = f1((edits(w, f), edits(w, r)) for w, f, r in zip(wrong, fixed, right, strict=True))

    factual = [s for s in sample if any(extract(s).values())][: count // 3]
    found = [facts(a) for a in answer(model, tokenizer, [EXTRACT[0].format(s) for s in factual])]
    out["JSON valid"] = sum(f is not None for f in found) / len(found)
    expected = [{(key, item) for key, items in extract(s).items() for item in items} for s in factual]
    out["JSON items F1"] = f1(zip([f or set() for f in found], expected, strict=True))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Evaluate a checkpoint on documents outside the training data."
    )
    parser.add_argument("config", type=Path)
    parser.add_argument(
        "weights",
        type=Path,
        nargs="?",
        help="folder of a checkpoint, or a GGUF file; default: the state of the run",
    )
    parser.add_argument("--count", type=int, default=500, help="number of sentences")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    config = read_config(options.config)
    torch.set_num_threads(options.threads)
    model = build(config, torch.device("cpu"))
    if options.weights:
        load_weights(model, options.weights)
    else:
        model.load_state_dict(load_run(config.work / "run.pt")["model"])
    tokenizer = load_tokenizer(config.tokenizer)
    baseline = MostFrequent(read_documents(config.documents("train")))
    for path in config.documents("valid"):
        figures = evaluate(model.eval(), tokenizer, list(read_documents([path])), baseline, options.count)
        print(path.parent.name)
        for name, value in figures.items():
            print(f"{name:32} {value:.4f}")
        print(json.dumps(figures, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
