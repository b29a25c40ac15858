"""Prepares weights for RoPE (Su et al. 2021, arXiv:2104.09864) as GGUF defines it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from binhdan.quantize.hyperparameters import Hyperparameters, RopeScaling


def interleave_rope_rows(rows: npt.NDArray[Any], heads: int) -> npt.NDArray[Any]:
    """Reorders each head's rows from 0, 1, 2 … d to 0, d/2, 1, d/2 + 1 …; (heads * d, columns) in and out."""
    half = rows.shape[0] // heads // 2
    return rows.reshape(heads, 2, half, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def llama3_frequency_factors(hp: Hyperparameters, scaling: RopeScaling) -> npt.NDArray[np.float32]:
    """Returns the divisors of Llama 3.1's RoPE frequencies, (head_dim / 2,): GGUF's rope_freqs.weight.

    The divisor is ``factor`` for wavelengths beyond the original context, 1 for short ones, and interpolated
    between them (transformers, modeling_rope_utils.py, _compute_llama3_parameters).
    """
    frequency = hp.rope_base ** -(np.arange(0, hp.head_dim, 2, dtype=np.float64) / hp.head_dim)
    turns = scaling.original_context * frequency / (2 * math.pi)  # full rotations within the original context
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    smooth = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return (1.0 / ((1 - smooth) / scaling.factor + smooth)).astype(np.float32)
