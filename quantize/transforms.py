"""Changes of a tensor's values between the checkpoint and GGUF.

A transform selects rows or columns, or changes each value. It is built from the sizes of the tensor's layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]
Dims = Mapping[str, int]

TransformName = Literal[
    "rope_q",
    "rope_k",
    "add_one",
    "minus_exp",
    "tile_heads",
    "tile_rows",
    "tile_columns",
    "tile_qkv_rows",
    "cut_positions",
]


@dataclass(frozen=True)
class Transform:
    rows: Indices | None = None  # row i of the result is row rows[i] of the source
    columns: Indices | None = None
    values: Callable[[Floats], Floats] | None = None  # applied to each value


def rope_order(heads: int, size: int) -> Indices:
    """Returns 0, d/2, 1, d/2 + 1 … for each head of ``size`` rows: pairs that were d/2 apart are adjacent."""
    order = np.arange(heads * size).reshape(heads, 2, size // 2).swapaxes(1, 2)
    return order.reshape(-1)


def tile_order(key_heads: int, value_heads: int, size: int, before: int = 0) -> Indices:
    """Returns the order of value heads in Qwen3.5: grouped by key head in a checkpoint, tiled in GGUF.

    With 2 key heads and 4 value heads, 0 1 2 3 becomes 0 2 1 3, so that value head i uses key head i mod 2.
    ``size`` rows belong to a head. The first ``before`` rows keep their places.
    """
    order = np.arange(value_heads * size).reshape(key_heads, value_heads // key_heads, size)
    return np.concatenate([np.arange(before), before + order.swapaxes(0, 1).reshape(-1)])


def _tile(d: Dims, size: int, before: int = 0) -> Indices:
    return tile_order(d["linear_key_heads"], d["linear_value_heads"], size, before)


def _minus_exp(values: Floats) -> Floats:
    with np.errstate(over="ignore"):  # the encoder rejects inf
        return (-np.exp(values.astype(np.float64))).astype(np.float32)


TRANSFORMS: Final[dict[TransformName, Callable[[Dims], Transform]]] = {
    "rope_q": lambda d: Transform(rows=rope_order(d["heads"], d["head_dim"])),
    "rope_k": lambda d: Transform(rows=rope_order(d["kv_heads"], d["head_dim"])),
    # RMSNorm with weight 1 + w (Gemma, Qwen3.5)
    "add_one": lambda d: Transform(values=lambda values: values + np.float32(1)),
    # a decay A is stored as log(-A)
    "minus_exp": lambda d: Transform(values=_minus_exp),
    "tile_heads": lambda d: Transform(rows=_tile(d, 1)),
    "tile_rows": lambda d: Transform(rows=_tile(d, d["linear_head_dim"])),
    "tile_columns": lambda d: Transform(columns=_tile(d, d["linear_head_dim"])),
    "tile_qkv_rows": lambda d: Transform(
        rows=_tile(d, d["linear_head_dim"], 2 * d["linear_key_heads"] * d["linear_head_dim"])
    ),
    # XLM-R's positions start after the padding token's id
    "cut_positions": lambda d: Transform(rows=np.arange(d["position_offset"], d["stored_positions"])),
}
ROPE_TRANSFORMS: Final[tuple[TransformName, ...]] = ("rope_q", "rope_k")
