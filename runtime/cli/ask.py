"""`binhdan ask`: answers one question."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Optional

import typer

from binhdan.runtime.cli import console
from binhdan.runtime.cli import options as shared
from binhdan.runtime.cli.answers import print_stream, read_prompt, restored, speed
from binhdan.runtime.client.model import Model, load
from binhdan.runtime.options import MAX_TOKENS
from binhdan.runtime.results import Answer

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def ask(
    prompt: Annotated[
        Optional[str],  # noqa: UP045  typer reads it at run time
        typer.Argument(help="The question; - or none reads standard input.", show_default=False),
    ] = None,
    model: shared.Model = None,
    adapter: shared.Adapter = None,
    draft: shared.Draft = None,
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
    question = read_prompt(prompt)
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
    if (
        model is None
        and adapter is None
        and not (raw or as_json or system)
        and (text := restored(question)) is not None
    ):
        console.write(text + "\n")
        return
    with load(model, threads=threads, context=context, draft=draft) as loaded:
        lora = None if adapter is None else loaded.load_adapter(adapter)
        if raw:
            stream = loaded.complete(question, stream=True, options=settings, adapter=lora)
        else:
            stream = loaded.ask(question, system=system, stream=True, options=settings, adapter=lora)
        if as_json:
            _print_json(loaded, stream.answer())
            return
        print_stream(stream)
        console.write("\n")
        console.note(speed(stream.answer()))


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
