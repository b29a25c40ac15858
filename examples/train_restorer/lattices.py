"""Reads what lattices.cpp writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MARGIN = 16  # tokens outside a sentence, so that no window reaches the next one
TOP = 3  # forms of a word
MAX_CHOICES = 24
NO_SHAPE = 14
_OTHER = 1
_DROPPED = 255
_WORDS, _BYTES = ("right", "best", "first"), ("choices", "shape", "other", "index")
_TOKEN = np.dtype([*((name, "<u2") for name in _WORDS), *((name, "u1") for name in _BYTES)])
Array = NDArray[Any]


@dataclass
class Lattices:
    """Tokens of all sentences with margins, and the doubtful words.

    ids, p, shapes: of each token; its most likely forms with probabilities in 1/255. places: tokens of the
    doubtful words. first, forms: its choices, and how many are forms. sizes: its choices. scores: -16 ln p of
    each choice. index: the right one. sure: words that are not doubtful; sure_right: of these, right ones.
    """

    ids: Array
    p: Array
    shapes: Array
    places: Array
    first: Array
    forms: Array
    sizes: Array
    scores: Array
    index: Array
    sure: int
    sure_right: int


def read(path: Path) -> Lattices:
    """path: of lattices.cpp, without the suffix."""
    tokens = np.fromfile(f"{path}.tokens", _TOKEN)
    choices = np.fromfile(f"{path}.choices", np.uint8)
    lengths = np.fromfile(f"{path}.sentences", "<u2").astype(np.int64)
    sizes = tokens["choices"].astype(np.int64) + tokens["other"]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    places = np.arange(len(tokens)) + MARGIN * (np.repeat(np.arange(len(lengths)), lengths) + 1)
    total = len(tokens) + MARGIN * (len(lengths) + 1)
    ids, p = np.zeros((total, TOP), np.int16), np.zeros((total, TOP), np.uint8)
    shapes = np.full(total, NO_SHAPE, np.uint8)
    ids[places, 0], p[places, 0], shapes[places] = tokens["best"], 255, tokens["shape"]
    several = np.flatnonzero(sizes)
    _top(ids, p, tokens[several], places[several], choices, starts[several], sizes[several])
    known = np.flatnonzero((sizes > 0) & (tokens["index"] != 255))
    best = tokens["best"][known].astype(np.int64)
    forms = tokens["choices"][known].astype(np.int64)
    best = np.where(best == _OTHER, forms, best - tokens["first"][known])
    right = tokens["best"][known] == tokens["right"][known]
    sure = choices[starts[known] + best] == 0
    doubtful = known[~sure & (sizes[known] <= MAX_CHOICES)]
    size = sizes[doubtful]
    scores = np.full((len(doubtful), MAX_CHOICES), _DROPPED, np.uint8)
    inside = np.arange(MAX_CHOICES) < size[:, None]
    scores[inside] = choices[(starts[doubtful][:, None] + np.arange(MAX_CHOICES))[inside]]
    own = tokens[doubtful]
    return Lattices(
        ids,
        p,
        shapes,
        places[doubtful],
        own["first"].astype(np.int64),
        own["choices"].astype(np.int64),
        size,
        scores,
        own["index"].astype(np.int64),
        int(sure.sum()),
        int((sure & right).sum()),
    )


def _top(
    ids: Array, p: Array, tokens: Array, places: Array, choices: Array, starts: Array, sizes: Array
) -> None:
    """Sets the most likely forms of tokens with several choices."""
    if not len(tokens):
        return
    gone = 1 << 20
    order = np.arange(len(choices)) - np.repeat(starts, sizes)
    keys = choices.astype(np.int64) * 256 + order  # by score, then by index
    for k in range(TOP):
        least = np.minimum.reduceat(keys, starts)
        score, index = least >> 8, least & 255
        found = (least < gone) & (score < _DROPPED)
        form = tokens["first"].astype(np.int64) + index
        ids[places[found], k] = np.where(index == tokens["choices"], _OTHER, form)[found]
        p[places[found], k] = np.round(255 * np.exp(-score[found] / 16))
        keys[starts + index] = gone
