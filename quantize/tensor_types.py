"""Tensor types of GGUF: their ids, block sizes and row sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from binhdan import _native

# Name → id in the file (enum ggml_type of ggml.h), for every type whose block size is known.
TYPE_IDS: Final = {
    "F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q5_0": 6, "Q5_1": 7, "Q8_0": 8, "Q2_K": 10, "Q3_K": 11,
    "Q4_K": 12, "Q5_K": 13, "Q6_K": 14, "IQ2_XXS": 16, "IQ2_XS": 17, "IQ3_XXS": 18, "IQ1_S": 19, "IQ4_NL": 20,
    "IQ3_S": 21, "IQ2_S": 22, "IQ4_XS": 23, "I8": 24, "I16": 25, "I32": 26, "I64": 27, "F64": 28, "IQ1_M": 29,
    "BF16": 30, "TQ1_0": 34, "TQ2_0": 35, "MXFP4": 39, "NVFP4": 40, "Q1_0": 41, "Q2_0": 42,
}  # fmt: skip
TYPE_NAMES: Final = {number: name for name, number in TYPE_IDS.items()}
FLOATS: Final = frozenset({"F32", "F16", "BF16"})
# Types with the precision of a source: the weights in them are not noticeably worse than the original.
SOURCES: Final = FLOATS | {"Q8_0"}

DECODED: Final = frozenset(_native.dtypes())
# Name → values and bytes of a block.
BLOCKS: Final = _native.dtypes() | {"I8": (1, 1), "I16": (1, 2), "I32": (1, 4), "I64": (1, 8), "F64": (1, 8)}


def tensor_bytes(tensor_type: str, shape: Sequence[int]) -> int:
    """Returns the size of a tensor. The row length, ``shape[-1]``, is a multiple of the block size."""
    block, size = BLOCKS[tensor_type]
    return math.prod(shape) // block * size
