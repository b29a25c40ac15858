"""Measures the recipes of `binhdan quantize` and of llama-quantize: size, loss, restoration and decode speed.

    python tests/real_models.py FOLDER        # fetches SmolLM2 and Gemma 3
    python tests/measure_quantization.py --models FOLDER --llama-quantize FILE --work FOLDER [--recipes ...]

Writes each row to bench/results/quantization.json at once; rows that are there are not measured again, except
with --again. docs/quantization.md is made of the file by `python -m binhdan.bench.suite.quantization_page
--write`. The order of the recipes is that of the table; --recipes and --only measure a part of it.

A row of `binhdan --fit` has the size of llama.cpp's file of the same recipe; ` --pure` gives all matrices one
type. Both programs use the same importance, from the calibration text of the package; the loss is measured
on its evaluation text. The reference is the checkpoint of the embedded model, or the published file decoded
to F16.
WORK keeps the references, the importance and the factors for feedback: about 3 GB.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any, Final

from real_models import GEMMA3, SMOLLM2, VARIABLE

import binhdan
from binhdan import _native
from binhdan.bench.common.files import write_whole
from binhdan.bench.common.machine import this_machine
from binhdan.bench.common.results import FOLDER, FORMAT, to_text
from binhdan.bench.suite.quantization_page import FILE
from binhdan.quantize.calibrate import DEFAULT_TEXT as CALIBRATION
from binhdan.quantize.calibrate import calibrate
from binhdan.quantize.convert import convert, find_recipe, prepare_draft, write_draft
from binhdan.quantize.draft import Draft
from binhdan.quantize.encode import Weights
from binhdan.quantize.evaluate.evaluation import DEFAULT_TEXT, Reference, record_reference
from binhdan.quantize.evaluate.restoration import restore_text
from binhdan.quantize.fit.choose import Target, allowed_types, choose_fitted
from binhdan.quantize.fit.errors import Errors
from binhdan.quantize.fit.factors import Factors
from binhdan.quantize.fit.measure import Study as FitStudy
from binhdan.quantize.fit.measure import no_bars, open_study
from binhdan.quantize.importance import read_importance, write_importance
from binhdan.quantize.recipes import choose_types
from binhdan.quantize.second_moments import second_moments
from binhdan.runtime.ffi import library
from binhdan.runtime.options import LoadOptions

ROOT: Final = Path(__file__).parents[1]
OURS, FEEDBACK, FIT, THEIRS = "binhdan", "binhdan --feedback", "binhdan --fit", "llama.cpp"
RECIPES: Final = (
    "q4_k_m", "q3_k_m", "q4_0", "iq4_xs", "q2_k", "q5_k_m", "q6_k", "iq4_nl", "balanced", "small", "best",
    "q8_0",
)  # fmt: skip
PURE: Final = ("iq3_xxs --pure", "iq3_s --pure", "q3_k_s --pure", "iq4_xs --pure", "iq4_nl --pure")
OWN_RECIPES: Final = ("best", "balanced", "small")
CALIBRATION_TOKENS: Final = 16384
GROUP: Final = 10  # consecutive lines of the evaluation text that are used or left out together
DECODE_TOKENS, ROUNDS = 16, 3

Row = dict[str, Any]


@dataclass(frozen=True)
class Source:
    """``part``: one of so many groups of lines of the evaluation text is used; ``lines``: to restore.

    ``lines`` 0: restoration is not measured. SmolLM2 restores 20 % of the syllables, where 19 % have no
    diacritics to restore.
    """

    name: str
    path: Path
    reference: str  # recipe
    license: str
    part: int
    lines: int


def sources(models: Path) -> list[Source]:
    checkpoint = ROOT / "examples/train_tiny_vi/checkpoint"
    return [
        Source("tiny-vi", checkpoint, "f32", "CC BY-SA 4.0", 2, 60),
        Source("SmolLM2-135M-Instruct", models / SMOLLM2.file, "f16", SMOLLM2.license, 16, 0),
        Source("gemma-3-270m", models / GEMMA3.file, "f16", GEMMA3.license, 16, 0),
    ]


def text_part(part: int) -> str:
    """Groups of lines, evenly spread over the registers of the evaluation text."""
    lines = DEFAULT_TEXT.read_text("utf-8").splitlines(keepends=True)
    kept = [lines[i : i + GROUP] for i in range(0, len(lines), GROUP * part)]
    return "".join(line for group in kept for line in group)


class Study(ExitStack):
    """One model: its reference, its importance, and the files that are made of them."""

    def __init__(self, source: Source, work: Path, llama_quantize: Path) -> None:
        super().__init__()
        self.source, self._work, self._llama_quantize = source, work, llama_quantize
        self.reference_file = work / f"{source.name}-{source.reference}.gguf"
        if not self.reference_file.exists():
            convert(source.path, self.reference_file, source.reference, requantize=True)
        self._imatrix = work / f"{source.name}.imatrix.gguf"
        if not self._imatrix.exists():
            write_importance(self._imatrix, calibrate(self.reference_file, tokens=CALIBRATION_TOKENS))
        self._text = text_part(source.part)
        lines = [line for line in self._text.splitlines() if len(line) < 300]
        self._restored = "\n".join(lines[:: max(1, len(lines) // source.lines)]) if source.lines else ""

    def reference_row(self, recorded: Reference) -> Row:
        """Size, bits per byte and restoration of the reference, and what they are measured on."""
        summary = json.loads(library().inspect(str(self.reference_file)))
        return {
            "model": self.source.name,
            "license": self.source.license,
            "parameters": sum(math.prod(tensor["shape"]) for tensor in summary["tensors"]),
            "type": self.source.reference,
            "bytes": self.reference_file.stat().st_size,
            "bits_per_byte": digits(recorded.bits_per_byte.value),
            "restored": self._restoration(self.reference_file),
            "tokens": recorded.tokens,
            "text_bytes": recorded.bytes,
        }

    @contextmanager
    def record(self) -> Iterator[Reference]:
        with record_reference(self.reference_file, self._text, overlap=True, folder=self._work) as recorded:
            yield recorded

    def row(self, recipe: str, maker: str, recorded: Reference, size: int) -> Row:
        """``size``: bytes of a fitted file."""
        file = self._make(recipe, maker, size)
        try:
            found = self._measure(file, recorded, maker)
        finally:
            file.unlink()
        return {"model": self.source.name, "recipe": recipe, "maker": maker} | found

    def _make(self, recipe: str, maker: str, size: int) -> Path:
        file = self._work / f"{self.source.name}.measured.gguf"
        file.unlink(missing_ok=True)
        if maker == THEIRS:
            name, *flags = recipe.split()
            command = [str(self._llama_quantize), *flags, "--imatrix", str(self._imatrix)]
            command += [str(self.reference_file), str(file), name]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        elif maker == OURS:
            convert(self.reference_file, file, recipe, importance=read_importance(self._imatrix))
        elif maker == FIT:
            draft, study, errors, losses = self._fit
            choice = choose_fitted(draft, allowed_types(draft, ()), losses, Target(size))
            write_draft(draft, file, choice, study.weights(errors, choice.types))
        else:
            draft = prepare_draft(self.reference_file, file)
            choice = choose_types(draft, find_recipe(recipe), imatrix=True)
            write_draft(draft, file, choice, Weights(self._factors.importance, self._factors))
        return file

    @cached_property
    def _fit(self) -> tuple[Draft, FitStudy, dict[str, Errors], dict[str, dict[str, float]]]:
        """The losses of all types, measured once for all sizes."""
        draft = prepare_draft(self.reference_file, self._work / "fit.gguf")
        study = self.enter_context(open_study(draft, [CALIBRATION], folder=self._work, bars=no_bars))
        errors = study.errors(allowed_types(draft, ()))
        return draft, study, errors, study.losses(errors)

    @cached_property
    def _factors(self) -> Factors:
        folder = self._work / f"{self.source.name}.factors"
        folder.mkdir(exist_ok=True)
        return Factors(folder, second_moments(self.reference_file, tokens=CALIBRATION_TOKENS))

    def _measure(self, file: Path, recorded: Reference, maker: str) -> Row:
        found = recorded.compare(file, intervals=True)
        # the same tokens, so the difference of the bits is that of the perplexities
        more_bits = math.log2(found.perplexity_ratio.value) * recorded.tokens / recorded.bytes
        row: Row = {
            "bytes": file.stat().st_size,
            "kl": digits(found.kl_mean.value),
            "kl_low": digits(found.kl_mean.low or 0),
            "kl_high": digits(found.kl_mean.high or 0),
            "same_top": round(found.same_top.value, 4),
            "bits_per_byte": digits(recorded.bits_per_byte.value + more_bits),
            "restored": self._restoration(file),
        }
        if maker == OURS:  # the types of both makers are the same, and so is the speed
            row["decode"] = self._decode_ratio(file)
        return row

    def _restoration(self, file: Path) -> float | None:
        if not self._restored:
            return None
        return round(restore_text(file, self._restored).accuracy.value, 4)

    def _decode_ratio(self, file: Path) -> float:
        """The decode speed, relative to that of the reference; both run in turns."""
        core = library()
        models = [core.open_model(str(path), LoadOptions()) for path in (self.reference_file, file)]
        threads = core.usable_cores()
        try:
            times = [
                [_native.profile(m, threads, 0, DECODE_TOKENS)["decode"]["ns"] for m in models]
                for _ in range(ROUNDS)
            ]
        finally:
            for model in models:
                core.close_model(model)
        return round(median(before / after for before, after in times), 2)


def digits(value: float) -> float:
    """Four significant digits."""
    return float(f"{value:.4g}")


class ResultFile:
    """bench/results/quantization.json, rewritten after each row."""

    def __init__(self, path: Path, llama_quantize: Path) -> None:
        self._path, self._llama_quantize = path, llama_quantize
        old = json.loads(path.read_text("utf-8")) if path.exists() else {}
        self.models: list[Row] = old.get("models", [])
        self.rows: list[Row] = old.get("rows", [])

    def put(self, rows: list[Row], row: Row, *keys: str) -> None:
        """Replaces the row with the same values of ``keys``, or appends it."""
        same = [i for i, old in enumerate(rows) if all(old[key] == row[key] for key in keys)]
        if same:
            rows[same[0]] = row
        else:
            rows.append(row)
        self._write()

    def size_of(self, model: str, recipe: str) -> int:
        """Bytes of llama.cpp's file; 0 if it has not been made."""
        sizes = [
            row["bytes"]
            for row in self.rows
            if (row["model"], row["recipe"]) == (model, recipe) and row["maker"] == THEIRS
        ]
        return sizes[0] if sizes else 0

    def _write(self) -> None:
        head = {
            "format": FORMAT,
            "kind": "quantization",
            "title": "Recipes",
            "date": f"{datetime.now().astimezone():%Y-%m-%d}",
            "machine": vars_of(this_machine()),
            "conditions": [
                f"importance: {CALIBRATION_TOKENS:,} tokens of quantize/data/texts/calibration.txt",
                "loss: quantize/data/texts/evaluation.txt, windows of 512 tokens",
                f"decode: median of {ROUNDS} pairs of {DECODE_TOKENS} tokens",
            ],
            "versions": {"binhdan": binhdan.__version__, "llama.cpp": self._version()},
            "commands": [
                "python tests/measure_quantization.py --models FOLDER --llama-quantize FILE --work FOLDER"
            ],
            "models": self.models,
        }
        write_whole(self._path, to_text(head, "rows", self.rows))

    def _version(self) -> str:
        command = [str(self._llama_quantize.with_name("llama-bench")), "--version"]
        found = subprocess.run(command, capture_output=True, text=True)
        lines = [line for line in (found.stdout + found.stderr).splitlines() if "version" in line]
        return lines[0].removeprefix("version: ") if lines else "not recorded"


def vars_of(machine: Any) -> dict[str, Any]:
    return {name: getattr(machine, name) for name in ("processor", "cores", "kernels", "system")}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=Path, default=os.environ.get(VARIABLE), help=f"default: ${VARIABLE}")
    parser.add_argument("--llama-quantize", type=Path, required=True, metavar="FILE")
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--recipes", nargs="*", default=(*RECIPES, *PURE))
    parser.add_argument("--only", nargs="*", default=(), metavar="MODEL")
    parser.add_argument("--again", action="store_true", help="also measure rows that are in the file")
    options = parser.parse_args()
    if not options.models:
        parser.error(f"expected --models or ${VARIABLE}")
    options.work.mkdir(parents=True, exist_ok=True)
    results = ResultFile(ROOT / FOLDER / FILE, options.llama_quantize)
    done = set() if options.again else {(r["model"], r["recipe"], r["maker"]) for r in results.rows}
    for source in sources(options.models):
        wanted = [pair for pair in pairs(options.recipes) if (source.name, *pair) not in done]
        if not wanted or (options.only and source.name not in options.only):
            continue
        with Study(source, options.work, options.llama_quantize) as study, study.record() as recorded:
            if options.again or source.name not in {row["model"] for row in results.models}:
                results.put(results.models, study.reference_row(recorded), "model")
            for recipe, maker in wanted:
                row = study.row(recipe, maker, recorded, results.size_of(source.name, recipe))
                print(row, flush=True)
                results.put(results.rows, row, "model", "recipe", "maker")


def pairs(recipes: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(recipe, maker); llama.cpp has no recipe of ours, and we have no option --pure."""
    for recipe in recipes:
        if not recipe.endswith("--pure"):
            yield from ((recipe, OURS), (recipe, FEEDBACK))
        if recipe not in OWN_RECIPES:
            yield from ((recipe, THEIRS), (recipe, FIT))


if __name__ == "__main__":
    main()
