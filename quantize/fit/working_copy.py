"""Files on which a fit measures: the model with 16-bit weights, and with the errors of a coarse type.

With 8-bit activations, two runs of nearly the same weights differ by a KL divergence of about 3e-4, more than
many tensors lose. Weights of 16 bits have float activations. Both files have the same layout, so the bytes
of any tensors of the coarse file can replace those of the other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from binhdan import _native
from binhdan.quantize.convert import Progress, write_tensors
from binhdan.quantize.draft import Draft, DraftTensor, Floats
from binhdan.quantize.encode import Importance, Weights
from binhdan.quantize.gguf_file import Layout, lay_out
from binhdan.quantize.recipes import is_quantizable

_SWAP_BYTES: Final = 1 << 24


def working_types(draft: Draft) -> dict[str, str]:
    """The type of the source if it is BF16 or that of a vector, else F16."""
    return {
        tensor.name: "F16" if is_quantizable(tensor) and tensor.type != "BF16" else tensor.type
        for tensor in draft.tensors
    }


@dataclass(frozen=True)
class WorkingCopy:
    """A GGUF file whose tensors are replaced by those of a coarse file with the same layout."""

    path: Path
    coarse: Path
    layout: Layout

    @contextmanager
    def with_coarse(self, tensors: Collection[str]) -> Iterator[Path]:
        """The file with these tensors of the coarse file."""
        self._swap(tensors)
        try:
            yield self.path
        finally:
            self._swap(tensors)

    def _swap(self, tensors: Collection[str]) -> None:
        """Exchanges the bytes of the tensors between the two files."""
        with self.path.open("r+b") as first, self.coarse.open("r+b") as second:
            for name in tensors:
                at, left = self.layout.offsets[name], self.layout.sizes[name]
                while left:
                    size = min(left, _SWAP_BYTES)
                    parts = []
                    for file in (first, second):
                        file.seek(at)
                        parts.append(file.read(size))
                    for file, part in zip((second, first), parts, strict=True):
                        file.seek(at)
                        file.write(part)
                    at, left = at + size, left - size


def write_working_copy(draft: Draft, path: Path, threads: int, progress: Progress) -> Layout:
    """Raises BinhdanError, OSError."""
    types = working_types(draft)
    layout = lay_out(draft, types)
    with path.open("wb") as file:
        write_tensors(file, draft, types, layout, Weights(), threads, progress)
        file.truncate(layout.size)
    return layout


def with_errors_of(draft: Draft, types: Mapping[str, str], importance: Importance, threads: int) -> Draft:
    """The draft with the values that encoding to ``types`` leaves."""

    def coarse(tensor: DraftTensor) -> DraftTensor:
        if tensor.name not in types:
            return tensor
        weights = importance.get(tensor.name)
        if weights is not None and weights.size != tensor.columns:  # of experts
            weights = None

        def read(begin: int, end: int) -> Floats:
            values = tensor.read(begin, end)
            blocks = _native.encode(types[tensor.name], values, weights, threads)
            return _native.decode(types[tensor.name], blocks, values.size).reshape(values.shape)

        return replace(tensor, read=read, read_raw=None)

    return replace(draft, tensors=[coarse(tensor) for tensor in draft.tensors])
