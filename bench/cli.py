"""`binhdan bench …`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

import binhdan

if TYPE_CHECKING:
    from binhdan.bench.speed import Speed

app = typer.Typer(no_args_is_help=True, help="Measure this machine.")


@app.callback()
def bench() -> None:
    """Measure this machine."""


@app.command()
def speed(
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="A GGUF file; without it, the embedded model.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Without it, the cores this process may use.")] = None,
    prompt: Annotated[int, typer.Option(help="Tokens of the prompt.")] = 512,
    decode: Annotated[int, typer.Option(help="Tokens of the answer.")] = 64,
    runs: Annotated[int, typer.Option(help="Answers that count; one more comes before them.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Prompt and decode speed, and the share of the memory bandwidth that decoding reaches."""
    from binhdan.bench.speed import measure

    with binhdan.load(model, threads=threads) as loaded:
        result = measure(loaded, prompt=prompt, decode=decode, runs=runs)
    typer.echo(json.dumps(asdict(result), ensure_ascii=False) if as_json else _table(result))


def _table(speed: Speed) -> str:
    prompt_from, prompt_to = speed.prompt_spread
    decode_from, decode_to = speed.decode_spread
    rows = [
        ("model", speed.model),
        ("kernels, threads", f"{speed.isa}, {speed.threads}"),
        (
            f"prompt of {speed.prompt_tokens}",
            f"{speed.prompt_tokens_per_s:,.1f} tokens/s ({prompt_from:,.1f} to {prompt_to:,.1f})",
        ),
        (
            f"decode of {speed.decode_tokens}",
            f"{speed.decode_tokens_per_s:,.1f} tokens/s ({decode_from:,.1f} to {decode_to:,.1f})",
        ),
        ("first token", f"{speed.first_token_ms:,.1f} ms"),
        (
            "read in decode",
            f"{speed.gb_per_s:.1f} GB/s, {speed.bandwidth_share:.0%} of {speed.bandwidth_gb_per_s:.1f}",
        ),
        ("peak memory", f"{speed.peak_rss_bytes / 1e6:,.0f} MB"),
    ]
    if speed.bandwidth_share > 1:
        rows.append(("", "more than memory gives: the weights stay in the processor's cache"))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)
