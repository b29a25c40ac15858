"""How good a checkpoint is, on documents that were never trained on.

    python -m train_tiny_vi.evaluate train_tiny_vi/config.toml [WEIGHTS] [--count 500]

WEIGHTS is a Hugging Face checkpoint's folder or a GGUF file; without them, the run's own state. Prints a
table and a line of JSON.
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
from train_tiny_vi.config import Config, read_config
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
    """`count` sentences of 30 to 200 characters, always the same ones, with at least one Vietnamese mark."""
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
    """All documents one after the other, in windows of `context`, which know nothing of each other."""
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
    """How many of the reference's syllables the answer has in their places, and how many there are.

    Tone marks count as right in either of the two styles (hòa, hoà).
    """
    want, got = (place_tones(text).split() for text in (reference, answer))
    pairs = (
        [(i, i, 1) for i in range(len(want))]
        if len(want) == len(got)
        else difflib.SequenceMatcher(None, want, got, autojunk=False).get_matching_blocks()
    )
    right = {a + k for a, b, n in pairs for k in range(n) if want[a + k] == got[b + k]}
    counted = [i for i, piece in enumerate(want) if WORD.search(piece)]
    return sum(i in right for i in counted), len(counted)


class MostFrequent:
    """The strongest trivial way: every bare syllable gets the form that the training text has most often."""

    def __init__(self, documents: Iterable[Document]) -> None:
        counts: Counter[str] = Counter()
        for document in documents:
            counts.update(WORD.findall(place_tones(document.text).lower()))
        self.forms: dict[str, str] = {}
        for form, _ in counts.most_common():
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
    """What must change in a text, by words: (from, to, what comes there)."""
    a, b = source.split(), target.split()
    codes = difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes()
    return {(i, j, " ".join(b[k:m])) for tag, i, j, k, m in codes if tag != "equal"}


def f1(pairs: Iterable[tuple[set[Any], set[Any]]]) -> float:
    """Micro-averaged over (got, wanted)."""
    right = got_all = wanted_all = 0
    for got, wanted in pairs:
        right, got_all, wanted_all = right + len(got & wanted), got_all + len(got), wanted_all + len(wanted)
    return 2 * right / (got_all + wanted_all) if got_all + wanted_all else 1.0


def facts(text: str) -> set[tuple[str, str]] | None:
    """The items of an answer in JSON; None if it is none or has another form."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    if not isinstance(value, dict) or not all(
        isinstance(items, list) and all(isinstance(item, str) for item in items) for items in value.values()
    ):
        return None
    return {(key, item) for key, items in value.items() for item in items}


def evaluate(model: TinyModel, tokenizer: Tokenizer, config: Config, count: int) -> dict[str, float]:
    documents = list(read_documents(config.documents("valid")))
    said = unseen_sentences(documents, count)
    bare = [strip_marks(s) for s in said]
    out: dict[str, float] = {"sentences": len(said)}
    out["bits per byte"] = bits_per_byte(model, tokenizer, documents)

    trivial = MostFrequent(read_documents(config.documents("train")))
    out["syllables, most frequent form"] = restoration([trivial.restore(b) for b in bare], said)["syllables"]
    asked = [f"Thêm dấu: {b}" for b in bare]
    free = restoration(answer(model, tokenizer, asked), said)
    out |= {"syllables, free": free["syllables"], "whole sentences, free": free["sentences"]}
    marks = MarksOnly(tokenizer)
    held = restoration(answer(model, tokenizer, asked, allowed=[marks.rule(b) for b in bare]), said)
    out |= {"syllables, held": held["syllables"], "whole sentences, held": held["sentences"]}

    rng = Random(11)
    right = [place_tones(s) for s in said[: count // 2]]
    wrong = [make_errors(rng, s) for s in right]
    fixed = answer(model, tokenizer, [SPELLING[0].format(w) for w in wrong])
    out["spelling F1"] = f1((edits(w, f), edits(w, r)) for w, f, r in zip(wrong, fixed, right, strict=True))

    full = [s for s in said if any(extract(s).values())][: count // 3]
    told = [facts(a) for a in answer(model, tokenizer, [EXTRACT[0].format(s) for s in full])]
    out["JSON valid"] = sum(t is not None for t in told) / len(told)
    wanted = [{(key, item) for key, items in extract(s).items() for item in items} for s in full]
    out["JSON items F1"] = f1(zip([t or set() for t in told], wanted, strict=True))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description="How good a checkpoint is, on unseen documents.")
    parser.add_argument("config", type=Path)
    parser.add_argument(
        "weights", type=Path, nargs="?", help="a checkpoint's folder or a GGUF file; default: the run's state"
    )
    parser.add_argument("--count", type=int, default=500, help="sentences")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    config = read_config(options.config)
    torch.set_num_threads(options.threads)
    model = build(config, torch.device("cpu"))
    if options.weights:
        load_weights(model, options.weights)
    else:
        model.load_state_dict(load_run(config.work / "run.pt")["model"])
    figures = evaluate(model.eval(), load_tokenizer(config.tokenizer), config, options.count)
    for name, value in figures.items():
        print(f"{name:32} {value:.4f}")
    print(json.dumps(figures, ensure_ascii=False))


if __name__ == "__main__":
    main()
