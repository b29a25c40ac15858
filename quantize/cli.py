"""``binhdan quantize``: converts a checkpoint folder to a GGUF file."""

from __future__ import annotations

import dataclasses
import json
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
from rich.table import Table

from binhdan.quantize.convert import OutputType, Summary, convert

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def quantize(
    checkpoint: Annotated[
        Path, typer.Argument(help="Folder with config.json, tokenizer.json and *.safetensors.")
    ],
    output: Annotated[Path, typer.Argument(help="The GGUF file to write.")],
    type: Annotated[OutputType, typer.Option(help="The type of the matrices; norms and biases are F32.")] = (
        OutputType.Q8_0
    ),
    name: Annotated[str | None, typer.Option(help="The model's name; default: the folder's name.")] = None,
    license: Annotated[str | None, typer.Option(help="The licence of the weights, an SPDX id.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the output file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")] = False,
) -> None:
    """Convert a Hugging Face checkpoint to a GGUF file.

    Families: Llama, Mistral, Ministral 3, Qwen 2 to 3.5, Gemma 1 to 4, LFM2, Phi-3, SmolLM3, Granite,
    EXAONE 4, MPT, and the encoders BERT, XLM-R and EmbeddingGemma.
    """
    signal.signal(signal.SIGTERM, _stop)  # SystemExit removes the partial file
    with _progress() as bar:
        task = bar.add_task(output.name, total=None)
        summary = convert(
            checkpoint,
            output,
            type,
            name=name,
            license=license,
            force=force,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if as_json:
        print(json.dumps(dataclasses.asdict(summary), ensure_ascii=False))
    else:
        _print(summary)


def _progress() -> Progress:
    """Returns a progress bar on standard error; disabled if standard error is not a terminal."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())


def _stop(number: int, frame: FrameType | None) -> Any:
    raise SystemExit(128 + number)


def _print(summary: Summary) -> None:
    console = Console()
    table = Table(show_header=False, box=None)
    tensors = ", ".join(f"{count} {type}" for type, count in summary.types.items())
    for label, value in (
        ("file", summary.output),
        ("architecture", summary.architecture),
        ("parameters", f"{summary.parameters:,}"),
        ("bytes", f"{summary.bytes:,}"),
        ("context", f"{summary.context:,}"),
        ("vocabulary", f"{summary.vocabulary:,}"),
        ("tensors", tensors),
        *((f"note: {tensor}", reason) for tensor, reason in summary.fallbacks.items()),
        *(("note", note) for note in summary.notes),
    ):
        table.add_row(label, value)
    console.print(table)
