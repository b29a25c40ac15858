"""Encodes the tensors of a draft part by part. A second thread reads ahead."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from binhdan import _native
from binhdan.quantize.draft import Draft, DraftTensor, Floats
from binhdan.quantize.tensor_types import FLOATS
from binhdan.runtime.errors import BadFormatError

PART_VALUES: Final = 1 << 22  # float32 values encoded at once: 16 MB
_PARTS_AHEAD: Final = 2
_F16_LIMIT: Final = 65520.0  # the smallest value that F16 rounds to inf

Importance = Mapping[str, npt.NDArray[np.float32]]  # by tensor: a weight for each column, of each expert
# tensor → the factor of its Hessian for feedback of errors (feedback_factor), or None
Factors = Callable[[str], Floats | None]
Bytes = bytes | memoryview
_Part = tuple[DraftTensor, int, bytes | Floats]  # tensor, first row, blocks or values
T = TypeVar("T")


@dataclass(frozen=True)
class Weights:
    """What the errors of a tensor are weighed with: a factor, if there is one, or importance."""

    importance: Importance = field(default_factory=dict)
    factors: Factors = lambda name: None


def encode_draft(
    draft: Draft, types: Mapping[str, str], weights: Weights = Weights(), threads: int = 0
) -> Iterator[tuple[DraftTensor, Bytes]]:
    """Yields the bytes of all tensors in order, in parts, with the tensor of each part.

    ``threads`` 0: all usable cores. Raises BadFormatError for inf, NaN and values out of the range of F16.
    """
    for tensor, row, part in _ahead(_read_parts(draft, types)):
        if isinstance(part, bytes):
            yield tensor, part
        else:
            yield (
                tensor,
                _encode(tensor, row, part, types[tensor.name], weights, threads),
            )


def _read_parts(draft: Draft, types: Mapping[str, str]) -> Iterator[_Part]:
    for tensor in draft.tensors:
        copied = tensor.read_raw if types[tensor.name] == tensor.type else None
        # a part ends where an expert does, as each has its own importance
        period = tensor.shape[-2] if len(tensor.shape) > 2 else tensor.rows
        step = max(1, PART_VALUES // tensor.columns)
        for first in range(0, tensor.rows, period):
            for begin in range(first, first + period, step):
                end = min(begin + step, first + period)
                yield tensor, begin, copied(begin, end) if copied else tensor.read(begin, end)


def _encode(
    tensor: DraftTensor,
    row: int,
    values: Floats,
    tensor_type: str,
    weights: Weights,
    threads: int,
) -> memoryview:
    if tensor_type == "F16" and (peak := np.abs(values).max()) >= _F16_LIMIT:
        raise BadFormatError(
            f"tensor {tensor.name}: {peak:g} is too large for F16; use --recipe bf16 or a quantized type"
        )
    if tensor_type not in FLOATS and (factor := weights.factors(tensor.name)) is not None:
        return _native.encode_feedback(tensor_type, values, factor, threads).reshape(-1).data
    importance = weights.importance.get(tensor.name)
    if importance is not None:
        by_expert = importance.reshape(-1, tensor.columns)  # one row: it counts for all experts
        importance = by_expert[row * len(by_expert) // tensor.rows]
    return _native.encode(tensor_type, values, importance, threads).reshape(-1).data


# ---- reading ahead -----------------------------------------------------------------------------------------


def _ahead(items: Iterable[T]) -> Iterator[T]:
    """Yields ``items``, which a second thread produces; at most _PARTS_AHEAD of them wait."""
    ready: queue.Queue[T | BaseException | None] = queue.Queue(_PARTS_AHEAD)
    stopped = threading.Event()

    def put(item: T | BaseException | None) -> None:
        while not stopped.is_set():
            try:
                return ready.put(item, timeout=0.1)
            except queue.Full:
                continue

    def produce() -> None:
        try:
            for item in items:
                put(item)
                if stopped.is_set():
                    return
            put(None)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=produce, name="binhdan-read", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()
