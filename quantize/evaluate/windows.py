"""Windows of a text whose tokens are scored, and their scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from binhdan import _native
from binhdan.quantize.texts import CONTEXT, OpenModel
from binhdan.runtime.errors import BadFormatError, InvalidArgumentError, UnsupportedError

Floats = npt.NDArray[np.float64]

MIN_TOKENS: Final = 32


@dataclass(frozen=True)
class Window:
    """Tokens of one pass of the model. Those after position ``first`` are scored.

    ``aligned``: llama.cpp's perplexity tool has this window; it scores the tokens after position
    ``len(tokens) // 2``.
    """

    tokens: list[int]
    first: int
    aligned: bool

    @property
    def scored(self) -> int:
        return len(self.tokens) - 1 - self.first


@dataclass(frozen=True)
class WindowedText:
    windows: list[Window]
    bytes: int  # of the tokens that are scored


@dataclass(frozen=True)
class Scores:
    """Scores of one window, (scored tokens,). The last three need a reference."""

    nll: Floats  # in nats
    kl: Floats | None = None  # in nats
    same_best: npt.NDArray[np.bool_] | None = None
    kept: Floats | None = None


# Rows of logits of a reference: codes (n, vocabulary) and factors (n, 4). See _native.score_tokens.
Logits = tuple[npt.NDArray[np.uint16], npt.NDArray[np.float64]]


def make_windows(
    model: OpenModel, text: str, *, tokens: int | None = None, context: int = CONTEXT, overlap: bool = True
) -> WindowedText:
    """The windows of ``text``, or of its first ``tokens`` tokens.

    With ``overlap``, a window begins every half context, so that every token but the first is scored once,
    and most after at least half a context: bits per byte of the whole text. Without it, a window begins every
    context and only its second half is scored, as in llama.cpp's perplexity tool. The start token, if the
    model has one, replaces the first token of a window. ``context`` is at most that of the model. Raises
    BinhdanError.
    """
    check_generates(model)
    if context < 8 or context % 2:
        raise InvalidArgumentError(f"context: expected an even number of tokens from 8 on, got {context:,}")
    context = min(context, model.info.context // 2 * 2)
    ids = model.tokenize(text, add_special=True)
    if model.suffix:
        ids = ids[: -len(model.suffix)]
    size = len(text.encode()) if tokens is None or tokens >= len(ids) else len(model.text_of(ids[:tokens]))
    ids = ids[:tokens]
    if len(ids) < MIN_TOKENS:
        raise BadFormatError(
            f"text: expected at least {MIN_TOKENS} tokens, got {len(ids)}; use a longer text"
        )
    half = context // 2
    windows: list[Window] = []
    scored = 1  # tokens before this position are scored or cannot be
    while scored < len(ids):
        begin = max(scored - half, 0) if overlap else scored // context * context
        window = ids[begin : begin + context]
        aligned = begin % context == 0 and len(window) == context
        if overlap and begin + context > len(ids):  # the end of the text
            begin = max(len(ids) - context, 0)
            window = ids[begin:]
        elif not overlap and len(window) < context and windows:
            break
        first = scored - 1 - begin if overlap else len(window) // 2 - 1
        window[: len(model.prefix)] = model.prefix
        windows.append(Window(window, first, aligned))
        scored = begin + len(window) + (0 if overlap else 1)
    if not overlap:
        size = sum(len(model.text_of(window.tokens[window.first + 1 :])) for window in windows)
    elif not model.prefix:
        size -= len(model.text_of(ids[:1]))
    return WindowedText(windows, max(size, 1))


def check_generates(model: OpenModel) -> None:
    """Raises UnsupportedError for an encoder."""
    if not model.generates:
        raise UnsupportedError(
            f"{model.path}: {model.info.architecture} is an encoder: it embeds texts and predicts no next"
            " token; expected a model that generates text"
        )


def score(
    model: OpenModel,
    window: Window,
    *,
    threads: int = 0,
    record: Logits | None = None,
    reference: Logits | None = None,
    columns: npt.NDArray[np.int32] | None = None,
) -> Scores:
    """Runs one window. ``record`` gets the logits; ``reference`` has those to compare with.

    Raises BadFormatError if the logits are not finite.
    """
    tokens = np.array(window.tokens, np.int32)
    try:
        found = _native.score_tokens(
            model.handle, tokens, window.first, threads, record=record, reference=reference, columns=columns
        )
    except ValueError as error:
        raise BadFormatError(f"{model.path}: {error}") from error
    return Scores(found["nll"], found.get("kl"), found.get("same_best"), found.get("kept"))


def new_logits(rows: int, vocabulary: int) -> Logits:
    return np.empty((rows, vocabulary), np.uint16), np.empty((rows, 4), np.float64)


def as_reference(windows: Sequence[Window], columns: npt.NDArray[np.int32] | None) -> list[Window]:
    """The windows with the token numbers of the reference."""
    if columns is None:
        return list(windows)
    return [Window(columns[window.tokens].tolist(), window.first, window.aligned) for window in windows]
