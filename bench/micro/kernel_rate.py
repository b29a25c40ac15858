"""The speed of one matrix kernel on one thread."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from binhdan import _native


def kernel_rate(isa: str, kind: str, m: int, rows: int, cols: int, gemm: bool, seconds: float) -> float:
    """Multiply-adds a second of `m` activation rows times (rows, cols) weights, the best within `seconds`."""
    elements, size = _native.dtypes()[kind]
    random = np.random.default_rng(0)
    blocks: Any = random.integers(0, 256, rows * cols // elements * size, dtype=np.uint8) & 0x9F | 0x20
    x = random.standard_normal((m, cols), dtype=np.float32)
    product = _native.Matmul(isa, kind, blocks.astype(np.uint8), rows, cols, x, gemm)
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.thread_time()  # other programs disturb it little
        for _ in range(8):
            product.run()
        best = min(best, (time.thread_time() - start) / 8)
    return m * rows * cols / best
