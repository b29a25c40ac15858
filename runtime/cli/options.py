"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from binhdan.runtime.options import GenerationOptions

Model = Annotated[
    Optional[str],  # noqa: UP045  typer reads it at run time
    typer.Option("--model", "-m", help="GGUF file, or org/name after binhdan pull. [default: embedded]"),
]
Threads = Annotated[Optional[int], typer.Option(min=1, help="Threads. [default: the usable cores]")]  # noqa: UP045
Context = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(min=1, help="Max tokens of prompt and answer. [default: the model's]"),
]
Adapter = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--adapter", metavar="FILE", help="LoRA adapter of the model, a GGUF file."),
]
Draft = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--draft",
        metavar="FILE",
        help="A smaller model with the same tokens: guesses tokens. Answers come faster and do not change.",
    ),
]
System = Annotated[Optional[str], typer.Option(help="An instruction that precedes the question.")]  # noqa: UP045
Thinking = Annotated[
    bool, typer.Option("--thinking", help="Let a model that can reason do so before it answers.")
]
MaxTokens = Annotated[int, typer.Option(min=1, help="Max tokens of an answer.")]
Temperature = Annotated[float, typer.Option(min=0.0, help="0 always chooses the most likely token.")]
TopK = Annotated[int, typer.Option(min=0, help="Sample from the K most likely tokens; 0 is off.")]
TopP = Annotated[
    float, typer.Option(min=0.0, max=1.0, help="Sample from the most likely tokens whose sum is P.")
]
MinP = Annotated[float, typer.Option(min=0.0, max=1.0, help="Drop tokens below P times the best.")]
RepetitionPenalty = Annotated[float, typer.Option(min=0.01, help="A value above 1 reduces repetition.")]
Seed = Annotated[Optional[int], typer.Option(min=0, help="The same seed reproduces an answer.")]  # noqa: UP045
Stop = Annotated[Optional[list[str]], typer.Option(help="A text that ends the answer; repeatable.")]  # noqa: UP045
# Texts of `restore` and `spell`.
TextFiles = Annotated[
    Optional[list[Path]],  # noqa: UP045
    typer.Argument(help="Text files; none reads standard input.", show_default=False),
]
TextKind = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--format",
        help="text, html, markdown, srt, csv, json, po or code. [default: by the file's extension]",
    ),
]


def generation(stop: list[str] | None, **settings: Any) -> GenerationOptions:
    """GenerationOptions from command-line options."""
    return GenerationOptions(stop=tuple(stop or ()), **settings)
