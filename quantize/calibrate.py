"""Calibration: runs a model over texts and collects the inputs of its weight matrices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from binhdan import _native
from binhdan.quantize.importance import Importance
from binhdan.quantize.texts import CONTEXT, OpenModel, make_windows, open_model, read_text
from binhdan.runtime.errors import BadFormatError, InvalidArgumentError

Floats = npt.NDArray[np.float32]
Progress = Callable[[int, int], None]  # (windows run, windows)

MIN_TOKENS: Final = 32  # of all texts together
DEFAULT_TEXT: Final = Path(__file__).parent / "data" / "texts" / "calibration.txt"


def calibrate(
    model: Path,
    texts: Sequence[Path] = (DEFAULT_TEXT,),
    *,
    tokens: int | None = None,
    context: int = CONTEXT,
    threads: int = 0,
    progress: Progress = lambda done, total: None,
) -> Importance:
    """Returns the sums of squares of the inputs of every matrix of ``model`` on ``texts``.

    ``tokens`` limits the work to windows of the texts, evenly spread, of about so many tokens. ``threads``:
    0 for all usable cores. The output matrix is included; its tensor is token_embd.weight if the model uses
    one matrix for both. Raises BinhdanError, OSError.
    """
    with open_model(model) as opened:
        windows = calibration_windows(opened, texts, tokens, context)
        sums: dict[str, npt.NDArray[np.float64]] = {}
        counts: dict[str, int] = {}

        def add(names: set[str], rows: Floats) -> None:
            squares = np.einsum("ij,ij->j", rows, rows, dtype=np.float64)
            for name in names:
                sums[name] = sums.get(name, 0.0) + squares
                counts[name] = counts.get(name, 0) + len(rows)

        for done, window in enumerate(windows):
            progress(done, len(windows))
            observe(opened, window, threads, add)
        progress(len(windows), len(windows))
    for name, values in sums.items():
        if not np.isfinite(values).all():
            raise BadFormatError(
                f"{model}: the inputs of {name} are not finite; the weights of the model are damaged"
            )
    return Importance(
        sums={name: values[None].astype(np.float32) for name, values in sums.items()},
        counts={name: np.array([count], np.float32) for name, count in counts.items()},
        datasets=[path.name for path in texts],
        chunks=len(windows),
        chunk_size=context,
    )


def calibration_windows(
    model: OpenModel, texts: Sequence[Path], tokens: int | None = None, context: int = CONTEXT
) -> list[list[int]]:
    """The windows of all texts, or evenly spread ones of about ``tokens`` tokens. Raises BinhdanError."""
    if context < 8:
        raise InvalidArgumentError(f"context: expected at least 8 tokens, got {context}")
    if tokens is not None and tokens < MIN_TOKENS:
        raise InvalidArgumentError(f"tokens: expected at least {MIN_TOKENS}, got {tokens}")
    windows = [window for path in texts for window in make_windows(model, read_text(path), context)]
    total = sum(map(len, windows))
    if total < MIN_TOKENS:
        names = ", ".join(map(str, texts))
        raise BadFormatError(f"{names}: expected text of at least {MIN_TOKENS} tokens, got {total}")
    if tokens is None or tokens >= total:
        return windows
    count = max(1, tokens // context)
    kept = [windows[int(index)] for index in np.linspace(0, len(windows) - 1, count).round()]
    return [window[:tokens] for window in kept]


def observe(
    model: OpenModel,
    window: Sequence[int],
    threads: int,
    add: Callable[[set[str], Floats], None],
    tensors: frozenset[str] = frozenset(),
) -> None:
    """Calls add(names, rows) with parts of the inputs, (rows, columns), of the tensors ``names``."""
    _native.observe_inputs(model.handle, np.array(window, np.int32), threads, add, set(tensors))
