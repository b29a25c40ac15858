"""`binhdan ask`: answers one question."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict
from typing import Annotated, Optional

import typer

from binhdan.runtime.cli import console
from binhdan.runtime.cli import options as shared
from binhdan.runtime.client.model import Model, load
from binhdan.runtime.client.restore import restore
from binhdan.runtime.client.stream import Stream
from binhdan.runtime.errors import InvalidArgumentError
from binhdan.runtime.options import MAX_TOKENS
from binhdan.runtime.results import Answer

_RESTORE = re.compile(r"\A\s*th[eê]m d[aấ]u\s*:\s*", re.IGNORECASE)

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def ask(
    prompt: Annotated[
        Optional[str],  # noqa: UP045  typer reads it at run time
        typer.Argument(help="The question; - or none reads standard input.", show_default=False),
    ] = None,
    model: shared.Model = None,
    system: shared.System = None,
    max_tokens: shared.MaxTokens = MAX_TOKENS,
    temperature: shared.Temperature = 0.0,
    top_k: shared.TopK = 0,
    top_p: shared.TopP = 1.0,
    min_p: shared.MinP = 0.0,
    repetition_penalty: shared.RepetitionPenalty = 1.0,
    seed: shared.Seed = None,
    stop: shared.Stop = None,
    thinking: shared.Thinking = False,
    threads: shared.Threads = None,
    context: shared.Context = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Continue the text as it is, without a chat template.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Ask one question and stream the answer.

    If standard error is a terminal, it shows the speed.
    """
    question = _read_prompt(prompt)
    settings = shared.generation(
        stop,
        max_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
        thinking=thinking,
    )
    # The embedded model restores diacritics less exactly than the n-gram file.
    if model is None and not (raw or as_json or system) and (text := _RESTORE.sub("", question)) != question:
        console.write(restore(text) + "\n")
        return
    with load(model, threads=threads, context=context) as loaded:
        if raw:
            stream = loaded.complete(question, stream=True, options=settings)
        else:
            stream = loaded.ask(question, system=system, stream=True, options=settings)
        if as_json:
            _print_json(loaded, stream.answer())
            return
        print_stream(stream)
        console.write("\n")
        console.note(speed(stream.answer()))


def print_stream(stream: Stream) -> None:
    """Streams the answer to standard output, and reasoning to standard error if that is a terminal."""
    for piece in stream:
        if piece.kind == "text":
            console.write(piece.text)
        elif sys.stderr.isatty():
            sys.stderr.write(f"\x1b[2m{console.printable(piece.text)}\x1b[0m")
            sys.stderr.flush()


def speed(answer: Answer) -> str:
    """For example "first token 12 ms, 345.6 tokens/s, 31 + 14 tokens"."""
    parts = [f"first token {answer.timings.ttft * 1000:.0f} ms"]
    if answer.tokens_per_second:
        parts.append(f"{answer.tokens_per_second:.1f} tokens/s")
    parts.append(f"{answer.prompt_tokens} + {answer.answer_tokens} tokens")
    reasons = {
        "length": "stopped at --max-tokens",
        "context": "the context is full",
        "cancelled": "stopped",
        "repetition": "stopped because it repeated itself",
    }
    return ", ".join(parts) + (
        f" ({reasons[answer.finish_reason]})" if answer.finish_reason in reasons else ""
    )


def _read_prompt(argument: str | None) -> str:
    if argument is None and sys.stdin.isatty():
        raise InvalidArgumentError('the prompt is empty; try: binhdan ask "xin chào"')
    if argument is None or argument == "-":
        argument = console.read_input().decode("utf-8-sig", "replace").rstrip("\n")
    if not argument.strip():
        raise InvalidArgumentError("the prompt is empty")
    return argument


def _print_json(model: Model, answer: Answer) -> None:
    result = asdict(answer)
    for name in ("tokens", "logprobs", "tool_calls", "drafted_tokens", "accepted_tokens"):
        del result[name]
    timings = answer.timings
    result |= {
        "model": model.path.name,
        "ttft_ms": timings.ttft * 1000,
        "decode_tokens_per_s": answer.tokens_per_second,
        "timings": {name + "_ms": seconds * 1000 for name, seconds in asdict(timings).items()},
    }
    console.write(json.dumps(result, ensure_ascii=False) + "\n")
