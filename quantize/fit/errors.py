"""What a tensor loses with each type, in the second order of its outputs, on a sample of its rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from binhdan import _native
from binhdan.quantize.draft import DraftTensor, Floats
from binhdan.quantize.tensor_types import FLOATS

ROWS: Final = 64  # of a tensor's sample
_MANY_ROWS: Final = 1 << 14  # from which on the sample has _MORE rows: those of an embedding differ more
_MORE: Final = 512
_PARTS: Final = 16


@dataclass(frozen=True)
class Errors:
    """Mean over rows of the square of the error of an output."""

    size: float  # of the outputs themselves
    coarse: float  # with the coarse type of the measurement, encoded without feedback
    types: Mapping[str, float]  # encoded with feedback where that lowers the error
    feedback: frozenset[str] = frozenset()  # the types where it does


def sample_rows(tensor: DraftTensor) -> Floats:
    """Evenly spread parts of the rows. Raises BadFormatError."""
    count = _MORE if tensor.rows >= _MANY_ROWS else ROWS
    if tensor.rows <= count:
        return tensor.read(0, tensor.rows)
    step = count // _PARTS
    begins = np.linspace(0, tensor.rows - step, _PARTS).astype(int)
    return np.concatenate([tensor.read(int(begin), int(begin) + step) for begin in begins])


def measure_errors(
    tensor: DraftTensor,
    types: Iterable[str],
    coarse: str,
    factor: Floats | None,
    *,
    feedback: bool = True,
) -> Errors:
    """``factor`` R with H = R R^T: the error d of a row counts as |d R|^2; without it, as |d|^2."""
    rows = np.ascontiguousarray(sample_rows(tensor), np.float32)
    importance = None if factor is None else np.einsum("ij,ij->i", factor, factor)

    def error(encoded: str, with_feedback: bool) -> float:
        if with_feedback and factor is not None:
            blocks = _native.encode_feedback(encoded, rows, factor, 1)
        else:
            blocks = _native.encode(encoded, rows, importance, 1)
        return _size(rows - _native.decode(encoded, blocks, rows.size).reshape(rows.shape), factor)

    plain = {name: error(name, False) for name in types}
    fed = {name: error(name, True) for name in types if feedback and name not in FLOATS}
    lower = {name: value for name, value in fed.items() if value < plain[name]}
    return Errors(_size(rows, factor), error(coarse, False), plain | lower, frozenset(lower))


def _size(rows: Floats, factor: Floats | None) -> float:
    outputs = rows if factor is None else rows @ factor
    return float(np.einsum("ij,ij->", outputs, outputs, dtype=np.float64)) / len(rows)
