"""Evaluates a model on a text: perplexity, bits per byte, and the difference to a reference.

- Perplexity per token: as llama.cpp's perplexity tool, so that figures agree. It depends on the tokenizer.
- Bits per byte: of all tokens of the text, so that models with different tokenizers can be compared.
- KL divergence: of the model's prediction from the reference's, for each token of the text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import numpy.typing as npt

from binhdan.quantize.evaluate.intervals import RESAMPLES, Interval, quantile_intervals, ratio_interval
from binhdan.quantize.evaluate.vocabularies import match_vocabularies
from binhdan.quantize.evaluate.windows import (
    Logits,
    Scores,
    Window,
    WindowedText,
    as_reference,
    make_windows,
    new_logits,
    score,
)
from binhdan.quantize.texts import CONTEXT, OpenModel, open_model
from binhdan.runtime.errors import InvalidArgumentError

Progress = Callable[[int, int], None]  # (windows run, windows)

DEFAULT_TEXT: Final = Path(__file__).parents[1] / "data" / "texts" / "evaluation.txt"


@dataclass(frozen=True)
class Comparison:
    """How the predictions of a model differ from those of a reference, in nats."""

    reference: str
    kl_mean: Interval
    kl_median: Interval
    kl_90: Interval  # quantiles
    kl_99: Interval
    kl_max: float
    same_top: Interval  # part of the tokens at which both have the same most probable token
    perplexity_ratio: Interval  # to the reference's, on the same tokens
    kept: float | None  # of a pruned vocabulary: mean probability that the reference gives its tokens


@dataclass(frozen=True)
class Evaluation:
    file: str
    tokens: int  # scored
    bytes: int  # of the tokens that are scored
    windows: int
    perplexity: Interval | None  # None if the text is shorter than a window
    bits_per_byte: Interval
    against: Comparison | None = None


def evaluate(
    file: Path,
    text: str,
    *,
    against: Path | None = None,
    tokens: int | None = None,
    context: int = CONTEXT,
    threads: int = 0,
    progress: Progress = lambda done, total: None,
) -> Evaluation:
    """Evaluates ``file`` on ``text``, or on its first ``tokens`` tokens.

    With ``against``, also compares it with that file, window by window, so that the logits of one window are
    kept in memory. If the tokens of ``file`` are a part of the reference's, both read the tokens of ``file``,
    and the reference's probabilities are normalised over them. ``threads``: 0 for all usable cores. Raises
    BinhdanError, OSError.
    """
    columns = match_vocabularies(file, against) if against is not None else None
    with ExitStack() as stack:
        model = stack.enter_context(open_model(file))
        reference = stack.enter_context(open_model(against)) if against is not None else None
        windowed = make_windows(model, text, tokens=tokens, context=context)
        windows = windowed.windows
        scores: list[Scores] = []
        expected: list[Scores] = []
        buffer: Logits | None = None
        if reference is not None:
            buffer = new_logits(max(window.scored for window in windows), reference.info.vocabulary)
        for done, (window, other) in enumerate(zip(windows, as_reference(windows, columns), strict=True)):
            progress(done, len(windows))
            logits: Logits | None = None
            if reference is not None and buffer is not None:
                logits = (buffer[0][: window.scored], buffer[1][: window.scored])
                expected.append(score(reference, other, threads=threads, record=logits))
            scores.append(score(model, window, threads=threads, reference=logits, columns=columns))
        progress(len(windows), len(windows))
    return Evaluation(
        file=str(file),
        tokens=sum(window.scored for window in windows),
        bytes=windowed.bytes,
        windows=len(windows),
        perplexity=_perplexity(windows, scores),
        bits_per_byte=_bits_per_byte(windows, scores, windowed.bytes),
        against=None if against is None else _compare(against, scores, expected, columns is not None),
    )


def _perplexity(windows: Sequence[Window], scores: Sequence[Scores]) -> Interval | None:
    """llama.cpp's: of the tokens after the first half of whole windows that do not overlap."""
    found = [
        one.nll[len(window.tokens) // 2 - window.first :]
        for window, one in zip(windows, scores, strict=True)
        if window.aligned
    ]
    if not found:
        return None
    return ratio_interval([float(nll.sum()) for nll in found], [len(nll) for nll in found], np.exp)


def _bits_per_byte(windows: Sequence[Window], scores: Sequence[Scores], size: int) -> Interval:
    """The bytes of a window are taken as its part of the tokens: exact in the sum."""
    total = sum(window.scored for window in windows)
    return ratio_interval(
        [float(one.nll.sum()) / math.log(2) for one in scores],
        [window.scored * size / total for window in windows],
    )


def _compare(
    reference: Path,
    scores: Sequence[Scores],
    expected: Sequence[Scores],
    is_part: bool,
    resamples: int = RESAMPLES,
) -> Comparison:
    kl = [one.kl for one in scores if one.kl is not None]
    same = [one.same_best for one in scores if one.same_best is not None]
    kept = [one.kept for one in scores if one.kept is not None]
    counts = [len(values) for values in kl]
    median, p90, p99 = quantile_intervals(kl, (0.5, 0.9, 0.99), resamples)
    return Comparison(
        reference=str(reference),
        kl_mean=ratio_interval([float(values.sum()) for values in kl], counts, resamples=resamples),
        kl_median=median,
        kl_90=p90,
        kl_99=p99,
        kl_max=max(float(values.max()) for values in kl),
        same_top=ratio_interval([float(values.sum()) for values in same], counts, resamples=resamples),
        perplexity_ratio=ratio_interval(
            [float((a.nll - b.nll).sum()) for a, b in zip(scores, expected, strict=True)],
            counts,
            np.exp,
            resamples,
        ),
        kept=float(np.concatenate(kept).mean()) if is_part else None,
    )


# ---- many candidates, one reference ------------------------------------------------------------------------


class Reference:
    """The predictions of a model on a text, kept in a temporary file, to compare many candidates with."""

    def __init__(self, file: Path, text: WindowedText, scores: Sequence[Scores], logits: Logits) -> None:
        self._file, self._windows, self._scores, self._logits = file, text.windows, scores, logits
        self.bytes = text.bytes  # of the tokens that are scored

    @property
    def tokens(self) -> int:
        """The number of scored tokens."""
        return sum(window.scored for window in self._windows)

    @property
    def bits_per_byte(self) -> Interval:
        """Of the reference itself."""
        return _bits_per_byte(self._windows, self._scores, self.bytes)

    def compare(self, file: Path, *, threads: int = 0, intervals: bool = False) -> Comparison:
        """Compares ``file``, which has the same vocabulary. Raises BinhdanError."""
        if match_vocabularies(file, self._file) is not None:
            raise InvalidArgumentError(f"{file}: expected the vocabulary of {self._file}, got a part of it")
        with open_model(file) as model:
            return self.compare_open(model, threads=threads, intervals=intervals)

    def compare_open(self, model: OpenModel, *, threads: int = 0, intervals: bool = False) -> Comparison:
        """The same for an open model. Raises ValueError if its vocabulary has another size."""
        scores, begin = [], 0
        for window in self._windows:
            part = slice(begin, begin + window.scored)
            logits = (self._logits[0][part], self._logits[1][part])
            scores.append(score(model, window, threads=threads, reference=logits))
            begin = part.stop
        return _compare(self._file, scores, self._scores, False, RESAMPLES if intervals else 0)


@contextmanager
def record_reference(
    file: Path,
    text: str,
    *,
    tokens: int | None = None,
    context: int = CONTEXT,
    overlap: bool = False,
    threads: int = 0,
    folder: Path | None = None,
    progress: Progress = lambda done, total: None,
) -> Iterator[Reference]:
    """Runs ``file`` once and yields its predictions; see make_windows for ``overlap``.

    They take two bytes for each scored token and token of the vocabulary, in a temporary file in ``folder``
    (default: the system's). Raises BinhdanError, OSError.
    """
    with TemporaryDirectory(prefix="binhdan-reference-", dir=folder) as temporary:
        with open_model(file) as model:
            windowed = make_windows(model, text, tokens=tokens, context=context, overlap=overlap)
            windows = windowed.windows
            shape = (sum(window.scored for window in windows), model.info.vocabulary)
            codes: npt.NDArray[np.uint16] = np.lib.format.open_memmap(
                Path(temporary) / "logits.npy", mode="w+", dtype=np.uint16, shape=shape
            )
            factors = np.empty((shape[0], 4), np.float64)
            scores, begin = [], 0
            for done, window in enumerate(windows):
                progress(done, len(windows))
                part = slice(begin, begin + window.scored)
                scores.append(score(model, window, threads=threads, record=(codes[part], factors[part])))
                begin = part.stop
            progress(len(windows), len(windows))
        yield Reference(file, windowed, scores, (codes, factors))
