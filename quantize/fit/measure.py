"""Measures what a model loses when a tensor has fewer bits: its sensitivity.

1. Second moments of the inputs of all matrices, on the calibration text.
2. The KL divergence of the model's predictions when a group of tensors has the errors of a coarse type.
3. For each tensor, the ratio of the error of every type to that of the coarse type, on a sample of its rows.

The loss of a tensor with a type is then what follows from 2 for the coarse type, times the ratio of 3: a KL
divergence is quadratic in small errors, and errors of different tensors add up because they are independent.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Final

from binhdan.quantize.convert import write_tensors
from binhdan.quantize.draft import Draft, DraftTensor
from binhdan.quantize.encode import Weights
from binhdan.quantize.evaluate.evaluation import Comparison, Reference, record_reference
from binhdan.quantize.evaluate.windows import check_generates
from binhdan.quantize.fit.errors import Errors, measure_errors
from binhdan.quantize.fit.factors import Factors
from binhdan.quantize.fit.groups import make_groups, spread
from binhdan.quantize.fit.working_copy import WorkingCopy, with_errors_of, working_types, write_working_copy
from binhdan.quantize.output_file import work_folder
from binhdan.quantize.second_moments import second_moments
from binhdan.quantize.tensor_types import BLOCKS
from binhdan.quantize.texts import open_model, read_text

# A function that shows a bar with a label and yields a function (done, total).
Bars = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]

MOMENT_TOKENS: Final = 16384  # of the calibration text, for second moments
LOSS_TOKENS: Final = 768  # of the calibration text, for each measured loss; the second half of windows
CHECK_TOKENS: Final = 4096  # for the loss of the result
_COARSE: Final = "IQ4_NL"
_CONTEXT: Final = 256
_CHARACTERS: Final = 5  # more than a token has


def no_bars(label: str) -> AbstractContextManager[Callable[[int, int], None]]:
    """Shows nothing."""
    return nullcontext(lambda done, total: None)


class Study:
    """A model on which losses are measured. ``open_study`` makes it."""

    def __init__(self, draft: Draft, folder: Path, texts: Sequence[Path], threads: int, bars: Bars) -> None:
        self._draft, self._folder, self._threads, self._bars = draft, folder, threads, bars
        self._texts = texts
        self._model = folder / "model.gguf"
        with bars("working copy") as bar:
            self._layout = write_working_copy(draft, self._model, threads, bar)
        with open_model(self._model) as opened:
            check_generates(opened)
        with bars("second moments") as bar:
            moments = second_moments(self._model, texts, tokens=MOMENT_TOKENS, threads=threads, progress=bar)
            self.factors = Factors(folder, moments)

    def errors(self, types: Mapping[str, Collection[str]], *, feedback: bool = True) -> dict[str, Errors]:
        """Returns the errors of ``types`` and of the coarse type, by tensor."""
        rows = {tensor.name: tensor for tensor in self._draft.tensors}
        errors: dict[str, Errors] = {}
        with self._bars("errors of types") as bar:
            for done, (name, wanted) in enumerate(types.items()):
                bar(done, len(types))
                factor = self.factors(name)
                errors[name] = measure_errors(
                    rows[name], wanted, coarse(rows[name]), factor, feedback=feedback
                )
        return errors

    def losses(self, errors: Mapping[str, Errors]) -> dict[str, dict[str, float]]:
        """Returns the loss of each tensor with each type: nats of KL divergence per token."""
        copy = WorkingCopy(self._model, self._folder / "coarse.gguf", self._layout)
        self._write_coarse(copy, errors)
        measured = self._measure_groups(copy, errors)
        losses = {}
        for name, error in errors.items():
            scale = measured[name] / error.coarse if error.coarse > 0 else 0.0
            losses[name] = {type_name: scale * value for type_name, value in error.types.items()}
        return losses

    def weights(self, errors: Mapping[str, Errors], types: Mapping[str, str]) -> Weights:
        """What to encode ``types`` with: feedback for each tensor whose type loses less with it."""
        used = {name for name, one in errors.items() if types[name] in one.feedback}
        return Weights(self.factors.importance, lambda name: self.factors(name) if name in used else None)

    def compare(self, file: Path, text: Path | None = None) -> Comparison:
        """Compares a file with the model on ``text``, default: the calibration text."""
        with self._reference([text] if text else self._texts, CHECK_TOKENS) as reference:
            return reference.compare(file, threads=self._threads, intervals=True)

    def _reference(self, texts: Sequence[Path], tokens: int) -> AbstractContextManager[Reference]:
        text = spread_text("\n".join(read_text(path) for path in texts), tokens)
        return record_reference(
            self._model, text, tokens=tokens, context=_CONTEXT, threads=self._threads, folder=self._folder
        )

    def _write_coarse(self, copy: WorkingCopy, tensors: Collection[str]) -> None:
        types = {tensor.name: coarse(tensor) for tensor in self._draft.tensors if tensor.name in tensors}
        changed = with_errors_of(self._draft, types, self.factors.importance, self._threads)
        with self._bars("coarse copy") as bar, copy.coarse.open("wb") as file:
            types = working_types(self._draft)
            write_tensors(file, changed, types, copy.layout, Weights(), self._threads, bar)
            file.truncate(copy.layout.size)

    def _measure_groups(self, copy: WorkingCopy, errors: Mapping[str, Errors]) -> dict[str, float]:
        """tensor → its loss with the coarse type."""
        groups = make_groups(errors)
        losses = []
        with self._bars("losses") as bar, self._reference(self._texts, LOSS_TOKENS) as reference:
            for done, group in enumerate(groups):
                bar(done, len(groups))
                with copy.with_coarse(group.tensors) as path, open_model(path) as model:
                    losses.append(reference.compare_open(model, threads=self._threads).kl_mean.value)
        shares = {name: one.coarse / one.size if one.size > 0 else 0.0 for name, one in errors.items()}
        return spread(groups, losses, shares)


@contextmanager
def open_study(
    draft: Draft, texts: Sequence[Path], *, folder: Path, threads: int = 0, bars: Bars
) -> Iterator[Study]:
    """Calibrates ``draft`` on ``texts``.

    The files are in a temporary folder in ``folder`` while the context is open: twice the size of the model
    in F16, the second moments and the predictions. Raises BinhdanError, OSError.
    """
    with work_folder(folder) as work:
        yield Study(draft, work, texts, threads, bars)


def spread_text(text: str, tokens: int) -> str:
    """Parts of ``text`` from all over it, of at least ``tokens`` tokens together if it has so many."""
    size = tokens * _CHARACTERS
    parts = max(1, tokens // _CONTEXT)
    if len(text) <= size:
        return text
    step = len(text) // parts
    return "\n".join(text[i * step : i * step + size // parts] for i in range(parts))


def coarse(tensor: DraftTensor) -> str:
    """The type with whose errors the loss of a tensor is measured."""
    return _COARSE if tensor.columns % BLOCKS[_COARSE][0] == 0 else "BF16"
