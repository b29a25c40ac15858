"""The factors of the Hessians of a model's matrices, on the disk."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np

from binhdan.quantize.draft import Floats
from binhdan.quantize.encode import Importance
from binhdan.quantize.feedback import feedback_factor
from binhdan.quantize.second_moments import SecondMoment

_DAMPINGS: Final = (0.01, 0.1, 1.0)  # the next one if the Hessian is not positive definite with one


class Factors:
    """tensor → the upper triangular R with H = R R^T, (columns, columns); None for a tensor without input."""

    def __init__(self, folder: Path, moments: Iterable[SecondMoment]) -> None:
        """Reads all ``moments`` and writes their factors to ``folder``. Raises OSError."""
        self._files: dict[str, Path] = {}
        self._diagonals: dict[str, Floats] = {}
        for number, moment in enumerate(moments):
            hessian = moment.matrix / np.float32(max(moment.rows, 1))
            factor = _factor(hessian)
            if factor is None:
                continue
            file = folder / f"factor-{number:04}.npy"
            np.save(file, factor, allow_pickle=False)
            self._files |= dict.fromkeys(moment.tensors, file)
            self._diagonals |= dict.fromkeys(moment.tensors, np.ascontiguousarray(hessian.diagonal()))
        self._load = lru_cache(maxsize=1)(_load)  # the matrices of an input are neighbours in a file

    def __call__(self, tensor: str) -> Floats | None:
        file = self._files.get(tensor)
        return None if file is None else self._load(file)

    @property
    def importance(self) -> Importance:
        """tensor → the mean square of each input column."""
        return self._diagonals


def _load(file: Path) -> Floats:
    factor: Floats = np.load(file, allow_pickle=False)
    return factor


def _factor(hessian: Floats) -> Floats | None:
    for damping in _DAMPINGS:
        try:
            return feedback_factor(hessian, damping)
        except ValueError:
            continue
    return None
