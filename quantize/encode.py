"""Reads tensors of a checkpoint, changes their values and encodes them in a tensor type of GGUF."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from binhdan import _native
from binhdan.quantize.checkpoint import CheckpointError, StoredTensor
from binhdan.quantize.transforms import TRANSFORMS, Transform, TransformName

_CHUNK_VALUES: Final = 1 << 22  # float32 values encoded at once: 16 MB
_F16_LIMIT: Final = 65520.0  # the smallest value that F16 rounds to inf


def encode_tensor(
    sources: Sequence[StoredTensor],
    tensor_type: GGMLQuantizationType,
    transforms: tuple[TransformName, ...] = (),
    dims: Mapping[str, int] | None = None,
) -> npt.NDArray[np.uint8]:
    """Returns the bytes of tensors, one after another, in a tensor type of GGUF.

    ``transforms`` are applied in order; ``dims`` are the sizes that they need. A tensor whose rows change
    their order is read as a whole, others in parts. Raises CheckpointError for inf, NaN and values out of
    the range of F16.
    """
    steps = [TRANSFORMS[name](dims or {}) for name in transforms]
    return np.concatenate([_encode_one(source, tensor_type, steps) for source in sources])


def _encode_one(
    tensor: StoredTensor, tensor_type: GGMLQuantizationType, transforms: list[Transform]
) -> npt.NDArray[np.uint8]:
    if any(transform.rows is not None for transform in transforms):
        values = _apply(tensor.read(0, tensor.rows), transforms)
        step = max(1, _CHUNK_VALUES // tensor.columns)
        parts = [values[begin : begin + step] for begin in range(0, len(values), step)]
        return np.concatenate([_encode_values(tensor, part, tensor_type) for part in parts])
    block, block_bytes = GGML_QUANT_SIZES[tensor_type]
    out = np.empty((tensor.rows, tensor.columns * block_bytes // block), np.uint8)
    step = max(1, _CHUNK_VALUES // tensor.columns)
    for begin in range(0, tensor.rows, step):
        end = min(begin + step, tensor.rows)
        values = _apply(tensor.read(begin, end), transforms)
        out[begin:end] = _encode_values(tensor, values, tensor_type).reshape(end - begin, -1)
    return out.reshape(-1)


def _apply(values: npt.NDArray[np.float32], transforms: list[Transform]) -> npt.NDArray[np.float32]:
    for transform in transforms:
        if transform.rows is not None:
            values = values[transform.rows]
        if transform.columns is not None:
            values = values[:, transform.columns]
        if transform.values is not None:
            values = transform.values(values)
    return values


def _encode_values(
    tensor: StoredTensor, values: npt.NDArray[np.float32], tensor_type: GGMLQuantizationType
) -> npt.NDArray[np.uint8]:
    peak = np.abs(values).max()
    if not np.isfinite(peak):
        raise CheckpointError(f"{tensor.file}: tensor {tensor.name} becomes inf or NaN in the conversion")
    if tensor_type is GGMLQuantizationType.F16 and peak >= _F16_LIMIT:
        raise CheckpointError(
            f"{tensor.file}: tensor {tensor.name}: {peak:g} is too large for F16; use --type bf16"
        )
    return np.asarray(_native.encode(tensor_type.name, values.ravel(), search=False))
