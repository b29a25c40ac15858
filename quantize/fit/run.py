"""``binhdan quantize`` with a size instead of a recipe, with error feedback, or with a report."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from binhdan.quantize.calibrate import DEFAULT_TEXT
from binhdan.quantize.convert import (
    Step,
    Summary,
    check_requantization,
    find_recipe,
    prepare_draft,
    write_draft,
)
from binhdan.quantize.evaluate.evaluation import DEFAULT_TEXT as CHECK_TEXT
from binhdan.quantize.evaluate.evaluation import Comparison
from binhdan.quantize.fit.choose import Target, allowed_types, check_reachable, choose_fitted, loss_curve
from binhdan.quantize.fit.measure import Bars, no_bars, open_study
from binhdan.quantize.fit.report import Facts, write_report
from binhdan.quantize.output_file import check_output
from binhdan.quantize.recipes import Choice, Override, choose_types, is_quantizable
from binhdan.runtime.errors import InvalidArgumentError


@dataclass(frozen=True)
class Fitted:
    """The losses are KL divergences from the model with 16-bit weights, in nats per token."""

    summary: Summary
    # what follows is absent without a measurement of losses
    types: Mapping[str, str] = field(default_factory=dict)
    losses: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # tensor → type → loss
    predicted: float = 0.0  # on the calibration text
    measured: Comparison | None = None  # on the calibration text
    checked: Comparison | None = None  # on the evaluation text of the package

    def as_json(self) -> dict[str, object]:
        result = dataclasses.asdict(self.summary)
        if self.measured and self.checked:
            result["loss"] = {
                "predicted": self.predicted,
                "calibration_text": self.measured.kl_mean.value,
                "evaluation_text": self.checked.kl_mean.value,
                "same_top": self.checked.same_top.value,
            }
        return result

    def lines(self) -> list[tuple[str, str]]:
        """What to show of the losses: (label, text)."""
        if not self.measured or not self.checked:
            return []
        kl, same = self.checked.kl_mean, self.checked.same_top
        return [
            (
                "loss",
                f"KL divergence {kl.value:.4f} on the evaluation text; {self.measured.kl_mean.value:.4f} on"
                f" the calibration text, {self.predicted:.4f} predicted",
            ),
            ("same token", f"{100 * same.value:.1f} % of the most probable tokens"),
        ]


def quantize_measured(
    source: Path,
    output: Path,
    *,
    target: Target | None = None,
    recipe: str = "q8_0",
    feedback: bool = True,
    losses: bool = False,
    report: Path | None = None,
    texts: Sequence[Path] = (DEFAULT_TEXT,),
    name: str | None = None,
    license: str | None = None,
    steps: Sequence[Step] = (),
    overrides: Sequence[Override] = (),
    requantize: bool = False,
    threads: int = 0,
    force: bool = False,
    bars: Bars = no_bars,
) -> Fitted:
    """As ``convert``, but calibrates the model first.

    With ``target``, chooses the types that lose least at its size; otherwise those of ``recipe``.
    ``feedback``: encode with feedback of errors. ``losses``: measure the losses also for a recipe, which
    ``report`` needs. Raises BinhdanError, OSError.
    """
    chosen = find_recipe(recipe)
    if report:
        if report.absolute() == output.absolute():
            raise InvalidArgumentError(f"--report {report}: expected another file than the model")
        check_output(report, force=force, inputs=[source, output, *texts])
    draft = prepare_draft(source, output, name=name, license=license, steps=steps, force=force)
    if target:
        types = allowed_types(draft, overrides)
        check_reachable(draft, types, target)
        smallest = {tensor: type_names[0] for tensor, type_names in types.items()}
        choice = Choice({tensor.name: tensor.type for tensor in draft.tensors} | smallest)
    else:
        choice = choose_types(draft, chosen, imatrix=True, overrides=overrides)
        types = {name: [type_name] for name, type_name in choice.types.items()}
    check_requantization(draft, choice.types, requantize)
    quantizable = {tensor.name for tensor in draft.tensors if is_quantizable(tensor)}
    types = {name: type_names for name, type_names in types.items() if name in quantizable}
    losses_of: dict[str, dict[str, float]] = {}
    with open_study(draft, texts, folder=output.absolute().parent, threads=threads, bars=bars) as study:
        errors = study.errors(types, feedback=feedback)
        if target or losses or report:
            losses_of = study.losses(errors)
        if target:
            choice = choose_fitted(draft, types, losses_of, target)
        weights = study.weights(errors, choice.types)
        with bars(output.name) as bar:
            summary = write_draft(
                draft, output, choice, weights, requantize=requantize, threads=threads, progress=bar
            )
        if not losses_of:
            return Fitted(summary)
        predicted = {name: found[choice.types[name]] for name, found in losses_of.items()}
        with bars("loss of the result"):
            measured, checked = study.compare(output), study.compare(output, CHECK_TEXT)
    fitted = Fitted(summary, choice.types, losses_of, sum(predicted.values()), measured, checked)
    if report:
        curve = loss_curve(draft, types, losses_of) if target else []
        title = "chosen by a fit" if target else f"recipe {recipe}"
        write_report(report, Facts(draft, summary, title, choice.types, predicted, measured, checked, curve))
    return fitted
