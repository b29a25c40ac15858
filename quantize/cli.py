"""``binhdan quantize``: writes a checkpoint or a GGUF file as a GGUF file with smaller weights."""

from __future__ import annotations

import dataclasses
import json
import signal
import sys
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from binhdan.quantize.convert import Step, Summary, convert
from binhdan.quantize.draft import Draft
from binhdan.quantize.importance import Importance, load_importance
from binhdan.quantize.keys import RawValue, Value
from binhdan.quantize.prune import lists
from binhdan.quantize.prune.draft import prune_draft
from binhdan.quantize.recipes import RECIPES, parse_override

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

_OURS = "; ".join(f"{name}: {RECIPES[name].summary}" for name in ("small", "balanced", "best"))


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
        str,
        typer.Option(
            "--recipe",
            "--type",
            help=f"Which type each tensor gets. {_OURS}. With llama.cpp's meaning:"
            f" {' '.join(name for name in RECIPES if name not in ('small', 'balanced', 'best'))}.",
        ),
    ] = "q8_0",
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
    """
    signal.signal(signal.SIGTERM, _stop)  # SystemExit removes the partial file
    importance = load_importance(imatrix) if imatrix else None
    steps = _steps(prune_vocab, keep_text or [])
    if imatrix and importance:
        steps.append(partial(_with_importance_keys, file=imatrix, importance=importance))
    with _progress() as bar:
        task = bar.add_task(output.name, total=None)
        summary = convert(
            source,
            output,
            recipe,
            name=name,
            license=license,
            steps=steps,
            importance=importance.means() if importance else None,
            overrides=[parse_override(text) for text in tensor_type or ()],
            requantize=requantize,
            threads=threads,
            force=force,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if as_json:
        print(json.dumps(dataclasses.asdict(summary), ensure_ascii=False))
    else:
        _print(summary)


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


def _print(summary: Summary) -> None:
    console = Console()
    table = Table(show_header=False, box=None)
    tensors = ", ".join(f"{count} {type}" for type, count in summary.types.items())
    bits = 8 * summary.bytes / summary.parameters
    for label, value in (
        ("file", summary.output),
        ("architecture", summary.architecture),
        ("parameters", f"{summary.parameters:,}"),
        ("bytes", f"{summary.bytes:,} ({bits:.2f} bits per weight)"),
        ("context", f"{summary.context:,}"),
        ("vocabulary", f"{summary.vocabulary:,}"),
        ("tensors", tensors),
        *((f"note: {tensor}", reason) for tensor, reason in summary.fallbacks.items()),
        *(("note", note) for note in summary.notes),
    ):
        table.add_row(label, value)
    console.print(table)
