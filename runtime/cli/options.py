"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated, Any, Optional

import typer

from binhdan.runtime.options import GenerationOptions

_SAMPLING = "Sampling"

Model = Annotated[
    Optional[str],  # noqa: UP045  typer reads it at run time
    typer.Option("--model", "-m", help="GGUF file, or org/name that was pulled. [default: embedded]"),
]
Threads = Annotated[Optional[int], typer.Option(min=1, help="Threads. [default: the usable cores]")]  # noqa: UP045
Context = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(min=1, help="Most tokens of prompt and answer. [default: the model's]"),
]
System = Annotated[Optional[str], typer.Option(help="An instruction that stands before the question.")]  # noqa: UP045
Thinking = Annotated[bool, typer.Option("--thinking", help="Let a model that can reason do so first.")]
MaxTokens = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(min=1, help="Most tokens of an answer. [default: what the context holds]"),
]
Temperature = Annotated[float, typer.Option(min=0.0, help="0 takes the likeliest token each time.")]
TopK = Annotated[int, typer.Option(min=0, help="Draw from the K likeliest; 0 is off.")]
TopP = Annotated[float, typer.Option(min=0.0, max=1.0, help="Draw from the likeliest that sum to P.")]
MinP = Annotated[float, typer.Option(min=0.0, max=1.0, help="Drop what is less likely than P times the best")]
RepetitionPenalty = Annotated[float, typer.Option(min=0.01, help="Above 1 makes repetition less likely.")]
Seed = Annotated[Optional[int], typer.Option(min=0, help="The same seed draws the same answer.")]  # noqa: UP045
Stop = Annotated[Optional[list[str]], typer.Option(help="Ends the answer; may be given again.")]  # noqa: UP045


def generation(stop: list[str] | None, **settings: Any) -> GenerationOptions:
    """The options of these names as one value."""
    return GenerationOptions(stop=tuple(stop or ()), **settings)
