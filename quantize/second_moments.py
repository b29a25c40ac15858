"""Second moments of the inputs of weight matrices, for error feedback (GPTQ: Frantar et al. 2022).

A folder of second moments has one ``.npy`` file for each input, and ``index.json`` maps tensors to files.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from binhdan.quantize.calibrate import DEFAULT_TEXT, Progress, calibration_windows, observe
from binhdan.quantize.texts import CONTEXT, OpenModel, open_model
from binhdan.runtime.errors import BadFormatError, InvalidArgumentError

Floats = npt.NDArray[np.float32]

_INDEX: Final = "index.json"
_ROWS: Final = 512  # that are multiplied at once
MAX_BYTES: Final = 1 << 30  # of the matrices of one pass over the texts


@dataclass
class SecondMoment:
    """X^T X of the inputs X that the matrices of ``tensors`` share, (columns, columns), and the rows of X."""

    tensors: tuple[str, ...]
    matrix: Floats
    rows: int


@dataclass
class _Sum:
    """Multiplies many rows at once: a product of 64 rows takes most of its time for the sum."""

    tensors: tuple[str, ...] = ()
    matrix: Floats | None = None
    rows: int = 0
    waiting: list[Floats] = field(default_factory=list)

    def add(self, rows: Floats) -> None:
        self.waiting.append(rows)
        self.rows += len(rows)
        if sum(map(len, self.waiting)) >= _ROWS:
            self.multiply()

    def multiply(self) -> None:
        if self.waiting:
            rows = np.concatenate(self.waiting)
            self.waiting.clear()
            product = rows.T @ rows
            self.matrix = product if self.matrix is None else np.add(self.matrix, product, out=self.matrix)


@dataclass(frozen=True)
class _Input:
    """The tensors that share an input, and its columns."""

    tensors: tuple[str, ...]
    columns: int

    @property
    def bytes(self) -> int:
        return 4 * self.columns**2


def second_moments(
    model: Path,
    texts: Sequence[Path] = (DEFAULT_TEXT,),
    *,
    tensors: frozenset[str] = frozenset(),
    tokens: int | None = None,
    context: int = CONTEXT,
    threads: int = 0,
    max_bytes: int = MAX_BYTES,
    progress: Progress = lambda done, total: None,
) -> Iterator[SecondMoment]:
    """Yields X^T X of every input, or of the inputs of ``tensors``, in the order of the forward pass.

    Runs the texts once for each group of inputs whose matrices fit in ``max_bytes`` together. ``progress``
    counts windows of all passes. Raises BinhdanError, OSError.
    """
    with open_model(model) as opened:
        windows = calibration_windows(opened, texts, tokens, context)
        inputs = _find_inputs(opened, windows[0][:1], threads, tensors)
        groups = _group(inputs, max_bytes)
        total = len(groups) * len(windows)
        for number, group in enumerate(groups):
            sums = {entry.tensors: _Sum(entry.tensors) for entry in group}

            def add(names: set[str], rows: Floats, sums: dict[tuple[str, ...], _Sum] = sums) -> None:
                sums[tuple(sorted(names))].add(rows)

            wanted = frozenset(name for entry in group for name in entry.tensors)
            for done, window in enumerate(windows):
                progress(number * len(windows) + done, total)
                observe(opened, window, threads, add, wanted)
            for entry in group:
                found = sums.pop(entry.tensors)
                found.multiply()
                assert found.matrix is not None
                yield SecondMoment(entry.tensors, found.matrix, found.rows)
        progress(total, total)


def _find_inputs(
    model: OpenModel, window: Sequence[int], threads: int, tensors: frozenset[str]
) -> list[_Input]:
    inputs: list[_Input] = []
    observe(
        model,
        window,
        threads,
        lambda names, rows: inputs.append(_Input(tuple(sorted(names)), rows.shape[1])),
        tensors,
    )
    unknown = tensors - {name for entry in inputs for name in entry.tensors}
    if unknown:
        raise InvalidArgumentError(f"tensors: {model.path} has no matrix {sorted(unknown)[0]!r}")
    return inputs


def _group(inputs: list[_Input], max_bytes: int) -> list[list[_Input]]:
    groups: list[list[_Input]] = []
    left = 0
    for entry in inputs:
        if not groups or entry.bytes > left:
            groups.append([])
            left = max_bytes
        groups[-1].append(entry)
        left -= entry.bytes
    return groups


def write_second_moments(folder: Path, moments: Iterator[SecondMoment]) -> int:
    """Writes each matrix to ``folder`` as soon as it is complete, then the index. Returns their bytes.

    Raises FileExistsError if the folder exists and is not empty, OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(f"{folder}: expected an empty folder for second moments")
    index, size = [], 0
    for number, moment in enumerate(moments):
        file = folder / f"{number:04}.npy"
        np.save(file, moment.matrix, allow_pickle=False)
        index.append({"file": file.name, "tensors": list(moment.tensors), "rows": moment.rows})
        size += moment.matrix.nbytes
    (folder / _INDEX).write_text(json.dumps(index, indent=1), "utf-8")
    return size


def read_second_moments(folder: Path) -> dict[str, SecondMoment]:
    """tensor → second moment of its input, mapped from the disk. Raises BadFormatError, OSError."""
    index_file = folder / _INDEX
    try:
        entries = json.loads(index_file.read_text("utf-8"))
        files = [
            (folder / Path(entry["file"]).name, entry["tensors"], int(entry["rows"])) for entry in entries
        ]
    except (ValueError, TypeError, KeyError) as error:
        raise BadFormatError(f"{index_file}: expected an index of second moments, got {error!r}") from error
    found: dict[str, SecondMoment] = {}
    for file, tensors, rows in files:
        try:
            matrix = np.load(file, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise BadFormatError(f"{file}: expected a matrix of numpy, got {error}") from error
        if matrix.dtype != np.float32 or matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or rows < 1:
            raise BadFormatError(
                f"{file}: expected a square matrix of float32, got {matrix.dtype} {matrix.shape}"
            )
        moment = SecondMoment(tuple(tensors), matrix, rows)
        found.update(dict.fromkeys(moment.tensors, moment))
    return found
