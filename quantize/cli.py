"""``binhdan quantize``: writes a checkpoint or a GGUF file as a GGUF file with smaller weights."""

from __future__ import annotations

import dataclasses
import json
import signal
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from binhdan.quantize.adapter import convert_adapter, is_adapter
from binhdan.quantize.calibrate import DEFAULT_TEXT
from binhdan.quantize.convert import Step, Summary, convert
from binhdan.quantize.draft import Draft
from binhdan.quantize.fit.choose import Target
from binhdan.quantize.fit.run import quantize_measured
from binhdan.quantize.fit.sizes import parse_size
from binhdan.quantize.importance import Importance, load_importance
from binhdan.quantize.keys import RawValue, Value
from binhdan.quantize.progress import progress_bar
from binhdan.quantize.prune import lists
from binhdan.quantize.prune.draft import prune_draft
from binhdan.quantize.recipes import RECIPES, parse_override
from binhdan.runtime.errors import InvalidArgumentError

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

_DEFAULT = "q8_0"
_OURS = "; ".join(f"{name}: {RECIPES[name].summary}" for name in ("small", "balanced", "best"))

_THEIRS = " ".join(name for name in RECIPES if name not in ("small", "balanced", "best"))


@app.command()
def quantize(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="IN",
            help="A folder with config.json, tokenizer.json and *.safetensors, or a GGUF file.",
        ),
    ],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="The GGUF file to write.")],
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            "--type",
            help=f"Which type each tensor gets. {_OURS}. With llama.cpp's meaning: {_THEIRS}. Default: q8_0.",
        ),
    ] = None,
    fit: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Instead of a recipe: the types with which a file of at most this size loses least, such as"
            " 350MB or 1.2GiB. Runs the model for some minutes.",
        ),
    ] = None,
    bpw: Annotated[
        float | None,
        typer.Option(
            metavar="BITS", help="As --fit: the size of all tensors in bits for each weight, such as 4.25."
        ),
    ] = None,
    feedback: Annotated[
        bool,
        typer.Option(
            "--feedback",
            help="Run the model on a text, and encode so that errors of a column make up for those of others"
            " (GPTQ). --fit does it always.",
        ),
    ] = False,
    text: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Text for --fit, --bpw, --feedback and --report. May be repeated. Default: the Vietnamese"
            " text of the package.",
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write an HTML page: where the bytes are, and what was lost."),
    ] = None,
    tensor_type: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN=TYPE",
            help="The type of the tensors whose names contain a regular expression, such as"
            " 'ffn_down=q6_k'. May be repeated; the first that fits counts.",
        ),
    ] = None,
    prune_vocab: Annotated[
        str,
        typer.Option(
            metavar="LISTS",
            help="Drop the tokens that texts of these languages do not use: 'vi,en', of "
            f"{', '.join(lists.UNITS)} (Python).",
        ),
    ] = "",
    keep_text: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Drop the tokens that neither this text nor --prune-vocab uses. May be repeated.",
        ),
    ] = None,
    imatrix: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The importance of the columns: a file of binhdan calibrate or of llama.cpp's imatrix.",
        ),
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="For a LoRA adapter of PEFT: a folder with config.json of the model that it changes.",
        ),
    ] = None,
    requantize: Annotated[
        bool, typer.Option("--requantize", help="Accept a source with fewer bits than Q8_0.")
    ] = False,
    name: Annotated[
        str | None, typer.Option(help="The model's name; default: the folder's name, or that of the file.")
    ] = None,
    license: Annotated[str | None, typer.Option(help="The licence of the weights, an SPDX id.")] = None,
    threads: Annotated[int, typer.Option(min=0, help="Threads that encode; 0: all usable cores.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the output file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")] = False,
) -> None:
    """Write a Hugging Face checkpoint or a GGUF file as a GGUF file with smaller weights.

    The output is whole and verified, or absent. Families of checkpoints: Llama, Mistral, Ministral 3,
    Qwen 2 to 3.5, Gemma 1 to 4, LFM2, Phi-3, SmolLM3, Granite, EXAONE 4, MPT, and the encoders BERT, XLM-R
    and EmbeddingGemma. A GGUF file may have any architecture.

    IN may also be a LoRA adapter, a folder of PEFT with adapter_config.json: --recipe is then f16 (default)
    or f32.
    """
    signal.signal(signal.SIGTERM, _stop)  # SystemExit removes the partial file
    if is_adapter(source):
        _refuse_with_adapter(locals())
        adapter = convert_adapter(
            source, output, base=base, tensor_type=recipe or "f16", name=name, force=force
        )
        if as_json:
            print(json.dumps(dataclasses.asdict(adapter), ensure_ascii=False))
        else:
            _print(adapter)
        return
    if base is not None:
        raise InvalidArgumentError("--base: expected a folder with adapter_config.json as the source")
    steps = _steps(prune_vocab, keep_text or [])
    common: dict[str, Any] = {
        "name": name,
        "license": license,
        "overrides": [parse_override(text) for text in tensor_type or ()],
        "requantize": requantize,
        "threads": threads,
        "force": force,
    }
    if fit is not None or bpw is not None or feedback or report:
        target = _target(fit, bpw, recipe)
        if imatrix:
            raise InvalidArgumentError(
                "--imatrix: expected no importance file with --fit, --bpw, --feedback or --report, which"
                " measure it; give the text with --text"
            )
        fitted = quantize_measured(
            source,
            output,
            target=target,
            recipe=recipe or _DEFAULT,
            feedback=feedback or target is not None,
            texts=text or [DEFAULT_TEXT],
            report=report,
            steps=steps,
            bars=progress_bar,
            **common,
        )
        if as_json:
            print(json.dumps(fitted.as_json(), ensure_ascii=False))
        else:
            _print(fitted.summary, fitted.lines())
        return
    if text:
        raise InvalidArgumentError("--text: expected --fit, --bpw, --feedback or --report with it")
    importance = load_importance(imatrix) if imatrix else None
    if imatrix and importance:
        steps.append(partial(_with_importance_keys, file=imatrix, importance=importance))
    with _progress() as bar:
        task = bar.add_task(output.name, total=None)
        summary = convert(
            source,
            output,
            recipe or _DEFAULT,
            steps=steps,
            importance=importance.means() if importance else None,
            **common,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if as_json:
        print(json.dumps(dataclasses.asdict(summary), ensure_ascii=False))
    else:
        _print(summary)


def _refuse_with_adapter(given: dict[str, Any]) -> None:
    """Raises InvalidArgumentError for options that adapters do not have."""
    known = {"source", "output", "recipe", "base", "name", "force", "as_json", "threads"}
    for option, value in given.items():
        if option not in known and value:
            raise InvalidArgumentError(
                f"--{option.replace('_', '-')}: expected no such option for the adapter in {given['source']}"
            )


def _target(fit: str | None, bpw: float | None, recipe: str | None) -> Target | None:
    given = {"--fit": fit, "--bpw": bpw, "--recipe": recipe}
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise InvalidArgumentError(f"{' and '.join(names)}: expected one of them")
    if fit is not None:
        return Target(size=parse_size(fit))
    return Target(bpw=bpw) if bpw is not None else None


def _steps(prune_vocab: str, keep_text: list[Path]) -> list[Step]:
    names = [name.strip() for name in prune_vocab.split(",") if name.strip()]
    for name in names:
        lists.read_list(name)  # an unknown name is an error before the model is read
    return [lambda draft: prune_draft(draft, names, keep_text)[0]] if names or keep_text else []


def _with_importance_keys(draft: Draft, file: Path, importance: Importance) -> Draft:
    """Adds the keys with which llama-quantize names an importance file."""
    values: dict[str, Value] = {
        "file": file.name.encode("utf-8", "replace").decode(),
        "entries_count": len(importance.sums),
        "chunks_count": importance.chunks,
    }
    if importance.datasets:
        values["dataset"] = importance.datasets[0]
    keys = {f"quantize.imatrix.{name}": RawValue.of(value) for name, value in values.items()}
    return dataclasses.replace(draft, keys=draft.keys | keys)


def _progress() -> Progress:
    """Returns a progress bar on standard error; disabled if standard error is not a terminal."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
    return Progress(
        *columns,
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )


def _stop(number: int, frame: FrameType | None) -> Any:
    raise SystemExit(128 + number)


def _print(summary: Summary, more: Sequence[tuple[str, str]] = ()) -> None:
    console = Console()
    table = Table(show_header=False, box=None)
    tensors = ", ".join(f"{count} {type}" for type, count in summary.types.items())
    bits = 8 * summary.bytes / summary.parameters
    for label, value in (
        ("file", summary.output),
        ("architecture", summary.architecture),
        ("parameters", f"{summary.parameters:,}"),
        ("bytes", f"{summary.bytes:,} ({bits:.2f} bits per weight)"),
        *((("context", f"{summary.context:,}"),) if summary.context else ()),
        *((("vocabulary", f"{summary.vocabulary:,}"),) if summary.vocabulary else ()),
        ("tensors", tensors),
        *more,
        *((f"note: {tensor}", reason) for tensor, reason in summary.fallbacks.items()),
        *(("note", note) for note in summary.notes),
    ):
        table.add_row(label, value)
    console.print(table)
