"""``binhdan calibrate``: collects the importance of the weights of a model on texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from binhdan.quantize.calibrate import DEFAULT_TEXT, calibrate
from binhdan.quantize.importance import write_importance
from binhdan.quantize.output_file import check_output
from binhdan.quantize.progress import progress_bar
from binhdan.quantize.second_moments import second_moments, write_second_moments
from binhdan.quantize.texts import CONTEXT

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def main(
    model: Annotated[Path, typer.Argument(help="The GGUF file of the model, best F16, BF16 or Q8_0.")],
    text: Annotated[
        list[Path] | None,
        typer.Option(help="Text in UTF-8, repeatable; default: the Vietnamese text of the package."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file to write; default: MODEL.importance.gguf."),
    ] = None,
    tokens: Annotated[
        int | None, typer.Option(min=32, help="Run about so many tokens, evenly spread; default: all.")
    ] = None,
    context: Annotated[int, typer.Option(min=8, help="Tokens of a window.")] = CONTEXT,
    hessian: Annotated[
        Path | None,
        typer.Option(help="Folder: also write the second moments of the inputs, for error feedback."),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads; default: the usable cores.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the output file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")] = False,
) -> None:
    """Measure on texts which columns of a model's matrices matter, for `binhdan quantize --imatrix`.

    The file has the format of llama.cpp's imatrix.
    """
    target = output or model.with_name(model.name.removesuffix(".gguf") + ".importance.gguf")
    texts = text or [DEFAULT_TEXT]
    check_output(target, force=force, inputs=[model, *texts])
    common: dict[str, Any] = {"tokens": tokens, "context": context, "threads": threads or 0}
    with progress_bar("importance") as progress:
        importance = calibrate(model, texts, **common, progress=progress)
    write_importance(target, importance)
    summary: dict[str, object] = {
        "output": str(target),
        "tensors": len(importance.sums),
        "tokens": int(max(float(counts.max()) for counts in importance.counts.values())),
        "windows": importance.chunks,
    }
    if hessian is not None:
        with progress_bar("second moments") as progress:
            moments = second_moments(model, texts, **common, progress=progress)
            summary["hessian"] = str(hessian)
            summary["hessian_bytes"] = write_second_moments(hessian, moments)
    if as_json:
        print(json.dumps(summary, ensure_ascii=False))
    else:
        print(
            f"{target}: importance of {summary['tensors']} tensors from {summary['tokens']:,} tokens of text"
        )
