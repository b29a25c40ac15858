"""``binhdan eval``: how well a model predicts text, and how far it is from a reference."""

from __future__ import annotations

import dataclasses
import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from binhdan.quantize.evaluate.choices import ChoiceScores, answer_questions, read_questions
from binhdan.quantize.evaluate.evaluation import DEFAULT_TEXT, Evaluation, evaluate
from binhdan.quantize.evaluate.intervals import Interval
from binhdan.quantize.evaluate.restoration import RestorationScores, restore_text
from binhdan.quantize.progress import progress_bar
from binhdan.quantize.texts import CONTEXT, read_text
from binhdan.runtime.errors import InvalidArgumentError

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


class Task(StrEnum):
    RESTORE = "restore"


@app.command()
def main(
    file: Annotated[Path, typer.Argument(help="The GGUF file of the model.")],
    against: Annotated[
        Path | None, typer.Option(help="Compare with this GGUF file, of the same model with more bits.")
    ] = None,
    text: Annotated[
        Path | None, typer.Option(help="Text in UTF-8; default: the Vietnamese text of the package.")
    ] = None,
    tokens: Annotated[int | None, typer.Option(min=32, help="Use the first tokens of the text only.")] = None,
    context: Annotated[int, typer.Option(min=8, help="Tokens of a window.")] = CONTEXT,
    task: Annotated[
        Task | None, typer.Option(help="Instead: remove the diacritics of the text, and restore them.")
    ] = None,
    choices: Annotated[
        Path | None,
        typer.Option(help="Instead: multiple choice; JSON lines with question, choices and answer (VMLU)."),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads; default: the usable cores.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Measure how well a model predicts text: perplexity and bits per byte.

    Perplexity is that of llama.cpp's tool. Bits per byte can be compared between models with different
    tokenizers. Brackets are 95 % confidence intervals, by the bootstrap over windows of the text.
    """
    if (task is not None) + (choices is not None) + (against is not None) > 1:
        raise InvalidArgumentError("expected one of --against, --task and --choices")
    result: Evaluation | ChoiceScores | RestorationScores
    with progress_bar("evaluation") as progress:
        if choices is not None:
            questions = read_questions(choices)
            result = answer_questions(file, questions, threads=threads or 0, progress=progress)
        elif task is not None:
            content = read_text(text or DEFAULT_TEXT)
            result = restore_text(file, content, threads=threads, progress=progress)
        else:
            result = evaluate(
                file,
                read_text(text or DEFAULT_TEXT),
                against=against,
                tokens=tokens,
                context=context,
                threads=threads or 0,
                progress=progress,
            )
    if as_json:
        print(json.dumps(dataclasses.asdict(result), ensure_ascii=False))
    else:
        _print(_rows(result))


def _rows(result: Evaluation | ChoiceScores | RestorationScores) -> list[tuple[str, str]]:
    if isinstance(result, ChoiceScores):
        return [
            ("questions", f"{result.questions:,}"),
            ("accuracy", _percent(result.accuracy)),
            ("accuracy per byte", _percent(result.accuracy_per_byte)),
            ("guessing", f"{result.chance:.1%}"),
        ]
    if isinstance(result, RestorationScores):
        return [
            ("syllables", f"{result.syllables:,} in {result.lines:,} lines"),
            ("restored", _percent(result.accuracy)),
            ("without restoration", f"{result.unchanged:.1%}"),
        ]
    rows = [
        ("tokens", f"{result.tokens:,} ({result.bytes:,} bytes)"),
        (
            "perplexity",
            "the text is shorter than a window" if result.perplexity is None else _number(result.perplexity),
        ),
        ("bits per byte", _number(result.bits_per_byte)),
    ]
    if (found := result.against) is not None:
        rows += [
            ("against", found.reference),
            ("KL divergence, mean", _number(found.kl_mean)),
            ("median", _number(found.kl_median)),
            ("90 %", _number(found.kl_90)),
            ("99 %", _number(found.kl_99)),
            ("maximum", f"{found.kl_max:.4g}"),
            ("same top token", _percent(found.same_top)),
            ("perplexity ratio", _number(found.perplexity_ratio)),
        ]
        if found.kept is not None:
            rows.append(
                ("note", "the vocabulary is a part of the reference's: probabilities of the reference are")
            )
            rows.append(("", f"normalised over it; the reference gives it {found.kept:.2%}"))
    return rows


def _number(interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return f"{interval.value:.4g}"
    return f"{interval.value:.4g}  [{interval.low:.4g}, {interval.high:.4g}]"


def _percent(interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return f"{interval.value:.1%}"
    return f"{interval.value:.1%}  [{interval.low:.1%}, {interval.high:.1%}]"


def _print(rows: list[tuple[str, Any]]) -> None:
    table = Table(show_header=False, box=None)
    for label, value in rows:
        table.add_row(label, value)
    Console(markup=False, highlight=False).print(table)
