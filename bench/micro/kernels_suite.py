"""pytest-benchmark suite of the matrix kernels, run by `binhdan bench kernels`.

Every kernel table, weight type and shape, on one thread. Informational: no speed makes it fail.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from binhdan import _native

# Activation rows, weight rows, columns. The decode shapes exceed a core's own caches, as in a real decode.
SHAPES = {
    "decode": (1, 16384, 2048),
    "batch": (4, 16384, 2048),
    "prompt": (256, 4096, 2048),
}
# Without the scalar table: it would take most of the time.
ISAS = _native.isas()[1:] or _native.isas()


def blocks(name: str, rows: int, cols: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Random blocks in file format. The masks keep the float16 scales neither tiny nor huge."""
    elements, size = _native.dtypes()[name]
    random = np.random.default_rng(0).integers(0, 256, rows * cols // elements * size, dtype=np.uint8)
    return (random & 0x9F | 0x20).astype(np.uint8)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", _native.dtypes())
@pytest.mark.parametrize("shape", SHAPES)
def test_matmul(benchmark: Any, isa: str, name: str, shape: str) -> None:
    m, rows, cols = SHAPES[shape]
    x = np.random.default_rng(1).standard_normal((m, cols), dtype=np.float32)
    product = _native.Matmul(isa, name, blocks(name, rows, cols), rows, cols, x, shape == "prompt")
    benchmark.extra_info.update(
        isa=isa,
        type=name,
        shape=f"{shape}: {m} x {cols} x {rows}",
        gigabytes=product.weight_bytes / 1e9,
        giga_operations=2 * m * rows * cols / 1e9,
    )
    benchmark(product.run)
