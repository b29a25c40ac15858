"""Prunes the vocabulary of a draft: its keys, and the tensors with a row for each token."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from binhdan.quantize.draft import Draft, DraftTensor
from binhdan.quantize.keys import RawValue
from binhdan.quantize.prune.keys import PRUNED, has_token_rows
from binhdan.quantize.prune.pruning import Pruning, plan_pruning
from binhdan.quantize.prune.vocabulary import PruneError
from binhdan.quantize.tensor_types import tensor_bytes

T = TypeVar("T")


def prune_draft(draft: Draft, names: Sequence[str], texts: Sequence[Path] = ()) -> tuple[Draft, Pruning]:
    """Returns ``draft`` with only the tokens that the lists ``names`` and the files ``texts`` use.

    Rows are copied as they are, so the logits of the tokens that are kept do not change. Raises PruneError if
    the vocabulary cannot be pruned, InvalidArgumentError for an unknown list, OSError for a text that cannot
    be read.
    """
    if PRUNED in draft.keys:
        raise PruneError(
            f"{draft.source} is pruned already ({draft.text(PRUNED)}); prune the file that it was made from"
        )
    values = {name: key.value for name, key in draft.keys.items()}
    pruning = plan_pruning(values, names, texts)
    keys = {
        name: draft.keys[name] if value is values.get(name) else RawValue.of(value, like=draft.keys.get(name))
        for name, value in pruning.keys.items()
    }
    tensors = [_prune(tensor, pruning) for tensor in draft.tensors]
    saved = (
        f"pruning saves {_size(draft.tensors) - _size(tensors):,} bytes in the types of {draft.source.name}"
    )
    notes = [*draft.notes, *pruning.report(), saved, *pruning.notes]
    return replace(draft, keys=keys, tensors=tensors, notes=notes), pruning


def _size(tensors: Sequence[DraftTensor]) -> int:
    return sum(tensor_bytes(tensor.type, tensor.shape) for tensor in tensors)


def _prune(tensor: DraftTensor, pruning: Pruning) -> DraftTensor:
    # a row of a vector of biases is one value, but a vector is a matrix with one row
    rows = tensor.shape[0]
    if not has_token_rows(tensor.name, rows, pruning.vocabulary):
        return tensor
    kept = pruning.kept
    if len(tensor.shape) == 1:
        return replace(
            tensor,
            shape=(len(kept),),
            read=lambda begin, end: tensor.read(begin, end)[:, kept],
            read_raw=None,
        )
    raw = tensor.read_raw
    return replace(
        tensor,
        shape=(len(kept), *tensor.shape[1:]),
        read=lambda begin, end: np.concatenate(list(_runs(tensor.read, kept[begin:end]))),
        read_raw=raw and (lambda begin, end: b"".join(_runs(raw, kept[begin:end]))),
    )


def _runs(read: Callable[[int, int], T], rows: Sequence[int]) -> Iterator[T]:
    """Reads ``rows`` (ascending), consecutive ones at once."""
    first = 0
    for i in range(1, len(rows) + 1):
        if i == len(rows) or rows[i] != rows[i - 1] + 1:
            yield read(rows[first], rows[i - 1] + 1)
            first = i
