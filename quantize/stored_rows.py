"""Rows of a GGUF tensor, read from the tensors of a checkpoint and changed by transforms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from binhdan.quantize.checkpoint import CheckpointError, StoredTensor
from binhdan.quantize.draft import Floats
from binhdan.quantize.transforms import TRANSFORMS, Indices, TransformName


class StoredRows:
    """Reads rows of ``sources``, one after another: the tensors of experts, or one tensor.

    ``shape`` is that of the result; ``dims`` are the sizes that the transforms need. Raises CheckpointError
    for inf and NaN.
    """

    def __init__(
        self,
        sources: Sequence[StoredTensor],
        shape: tuple[int, ...],
        transforms: tuple[TransformName, ...] = (),
        dims: Mapping[str, int] | None = None,
    ) -> None:
        self._sources, self._is_vector = sources, len(shape) == 1
        self._steps = [TRANSFORMS[name](dims or {}) for name in transforms]
        # row i of a result is row order[i] of its source
        self._order: Indices | None = None
        for step in self._steps:
            if step.rows is not None:
                self._order = step.rows if self._order is None else self._order[step.rows]
        self._rows = (math.prod(shape) if self._is_vector else math.prod(shape[:-1])) // len(sources)

    def read(self, begin: int, end: int) -> Floats:
        if self._is_vector:
            return self._part(self._sources[0], 0, self._rows).reshape(1, -1)[begin:end]
        parts = []
        for i, source in enumerate(self._sources):
            first, last = max(begin - i * self._rows, 0), min(end - i * self._rows, self._rows)
            if first < last:
                parts.append(self._part(source, first, last))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _part(self, source: StoredTensor, begin: int, end: int) -> Floats:
        if self._order is None:
            values = source.read(begin, end)
        else:
            order = self._order[begin:end]
            low = int(order.min())
            values = source.read(low, int(order.max()) + 1)[order - low]
        for step in self._steps:
            if step.columns is not None:
                values = values[:, step.columns]
            if step.values is not None:
                values = step.values(values)
                if not np.isfinite(values).all():
                    raise CheckpointError(
                        f"{source.file}: tensor {source.name} becomes inf or NaN in the conversion"
                    )
        return values
