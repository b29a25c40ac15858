"""A model on its way to a GGUF file: its keys and its tensors, before their types are chosen.

``plan`` makes a draft of a checkpoint and ``gguf_source`` one of a GGUF file. Steps between reading and
encoding take a draft and return a changed one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from binhdan.quantize.keys import RawValue

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class DraftTensor:
    """A tensor: a matrix of ``rows`` × ``columns``, whatever its number of dimensions; a vector has one row.

    ``read(begin, end)`` returns these rows as float32, (end - begin, columns). ``read_raw(begin, end)``
    returns their bytes in ``type``; None if the source has no such bytes, or if its values are changed. Both
    raise BadFormatError. One thread at a time may call them.
    """

    name: str
    shape: tuple[int, ...]  # rows first, as in numpy; shape[-1] is the row length
    type: str  # of the source, and of the output if the tensor is not quantized
    read: Callable[[int, int], Floats]
    read_raw: Callable[[int, int], bytes] | None = None

    @property
    def columns(self) -> int:
        return self.shape[-1]

    @property
    def rows(self) -> int:
        return math.prod(self.shape[:-1])


@dataclass(frozen=True)
class Draft:
    """A model. Names of tensors are unique; the order of keys and tensors is that of the output."""

    source: Path
    keys: dict[str, RawValue]
    tensors: list[DraftTensor]
    notes: list[str] = field(default_factory=list)  # remarks for the user
    files: list[Path] = field(default_factory=list)  # that are read until the output is written

    @property
    def architecture(self) -> str:
        return self.text("general.architecture")

    def text(self, key: str) -> str:
        """Returns a string; "" if the key is absent or has another type."""
        value = self.keys[key].value if key in self.keys else ""
        return value if isinstance(value, str) else ""

    def integer(self, name: str, default: int = 0) -> int:
        """Returns the number at "ARCHITECTURE.name", of an array the first; the default if it is absent."""
        key = self.keys.get(f"{self.architecture}.{name}")
        value = key.value if key is not None else default
        if isinstance(value, list) and value:
            value = value[0]
        return value if type(value) is int else default

    @property
    def parameters(self) -> int:
        return sum(math.prod(tensor.shape) for tensor in self.tensors)
