"""Compares the errors of binhdan's encoders with those of llama.cpp's, on the same rows and weights.

    python tests/compare_encoders.py MODEL.gguf ... --ggml PATH/libggml-base.so [--imatrix FILE ...]

MODEL is best an F16 or F32 file. The library is a part of every build of llama.cpp. For each type it prints
the sum over all matrices of w (x - x')^2, relative to the sum of w x^2, with w = 1 ("plain") and with the
importance of the columns, and the ratio ours / llama.cpp's: of all matrices, and of the matrix where it is
the largest. The exit code is 1 if a ratio is above 1. Without --imatrix the importance is measured on a part
of the calibration text; with it, give one file for each model.

A matrix is normalised by its own sum of w x^2, so that all matrices count alike. A matrix that one of the
encoders reproduces does not count: the model was made of a file of this type.
"""

from __future__ import annotations

import argparse
import ctypes
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from binhdan import _native
from binhdan.quantize.calibrate import calibrate
from binhdan.quantize.draft import DraftTensor
from binhdan.quantize.gguf_source import read_gguf
from binhdan.quantize.importance import read_importance
from binhdan.quantize.tensor_types import BLOCKS, TYPE_IDS

Array = npt.NDArray[Any]

TYPES: Final = (
    "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS",
    "TQ2_0", "Q1_0",
)  # fmt: skip
# The sums are of float32 values; a difference below this part of them is rounding.
TOLERANCE: Final = 1e-6
REPRODUCED: Final = 1e-5  # the relative error of rounding to F16 is about 4e-8


@dataclass(frozen=True)
class Case:
    name: str
    values: Array  # (rows, columns)
    importance: Array | None  # (columns,)


class Ggml:
    """The encoders of llama.cpp."""

    def __init__(self, library: Path) -> None:
        self._encode = ctypes.CDLL(str(library)).ggml_quantize_chunk
        self._encode.restype = ctypes.c_size_t
        self._encode.argtypes = [
            *(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p),
            *(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p),
        ]

    def encode(self, name: str, values: Array, importance: Array | None) -> Array:
        block, size = BLOCKS[name]
        out = np.empty(values.size // block * size, np.uint8)
        weights = None if importance is None else importance.ctypes.data
        written = self._encode(TYPE_IDS[name], values.ctypes.data, out.ctypes.data, 0, *values.shape, weights)
        assert written == out.size
        return out


def matrices_of(model: Path) -> list[DraftTensor]:
    return [t for t in read_gguf(model).tensors if len(t.shape) == 2 and t.columns % 32 == 0]


def cases(model: Path, importance: dict[str, Array], rows: int) -> Iterator[Case]:
    """Evenly spread rows of the matrices of a model."""
    for tensor in matrices_of(model):
        first = np.unique(np.linspace(0, tensor.rows - 1, min(rows, tensor.rows)).astype(int))
        values = np.concatenate([tensor.read(int(row), int(row) + 1) for row in first])
        weights = importance.get(tensor.name)
        yield Case(f"{model.stem} {tensor.name}", np.ascontiguousarray(values), weights)


def error(name: str, blocks: Array, values: Array, weights: Array) -> float:
    decoded = _native.decode(name, blocks.ravel(), values.size).reshape(values.shape)
    rest = decoded.astype(np.float64) - values
    return float((weights * rest**2).sum() / (weights * values.astype(np.float64) ** 2).sum())


@dataclass
class Comparison:
    ours: float = 0.0  # sums over the matrices
    theirs: float = 0.0
    matrices: int = 0
    largest: float = 0.0  # ratio
    where: str = "none"

    def add(self, name: str, ours: float, theirs: float) -> None:
        self.ours, self.theirs, self.matrices = self.ours + ours, self.theirs + theirs, self.matrices + 1
        if ours / theirs > self.largest:
            self.largest, self.where = ours / theirs, name


def compare(ggml: Ggml, name: str, found: list[Case]) -> dict[str, Comparison]:
    results = {"plain": Comparison(), "importance": Comparison()}
    for case in found:
        if case.values.shape[1] % BLOCKS[name][0]:
            continue
        for label, importance in (("plain", None), ("importance", case.importance)):
            if label == "importance" and importance is None:
                continue
            weights = np.ones(case.values.shape[1]) if importance is None else importance.astype(np.float64)
            ours = error(name, _native.encode(name, case.values, importance), case.values, weights)
            theirs = error(name, ggml.encode(name, case.values, importance), case.values, weights)
            if min(ours, theirs) < REPRODUCED:
                break
            results[label].add(case.name, ours, theirs)
    return results


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL")
    parser.add_argument("--ggml", type=Path, required=True, help="libggml-base.so of a build of llama.cpp")
    parser.add_argument("--imatrix", type=Path, nargs="*", default=[], help="one file for each MODEL")
    parser.add_argument("--rows", type=int, default=64, help="of a matrix")
    parser.add_argument("--types", nargs="*", default=TYPES)
    options = parser.parse_args()
    if options.imatrix and len(options.imatrix) != len(options.models):
        parser.error(f"--imatrix: expected {len(options.models)} files, got {len(options.imatrix)}")
    ggml, found = Ggml(options.ggml), []
    for number, model in enumerate(options.models):
        importance = (
            read_importance(options.imatrix[number])
            if options.imatrix
            else calibrate(model, tokens=4096).means()
        )
        found += cases(model, importance, options.rows)
    print(f"{len(found)} matrices, at most {options.rows} rows of each")
    print(
        f"{'type':7} {'weights':10} {'matrices':>8} {'ours':>9} {'llama.cpp':>9}  {'ratio':>6} {'largest':>7}"
    )
    largest = 0.0
    for name in options.types:
        for label, one in compare(ggml, name, found).items():
            if not one.matrices:
                continue
            ours, theirs = one.ours / one.matrices, one.theirs / one.matrices
            figures = f"{one.matrices:8} {ours:9.3e} {theirs:9.3e}  {ours / theirs:6.4f} {one.largest:7.4f}"
            print(f"{name:7} {label:10} {figures} {one.where}", flush=True)
            largest = max(largest, one.largest)
    return int(largest > 1 + TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
