"""`binhdan info`: the contents of a model file, and whether this build can run it."""

from __future__ import annotations

import json
from typing import Annotated, Any, Optional

import typer
from rich.table import Table

from binhdan.runtime.cli import console, tables
from binhdan.runtime.client.model import find_model
from binhdan.runtime.ffi import library

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def info(
    file: Annotated[
        Optional[str],  # noqa: UP045  typer reads it at run time
        typer.Argument(help="GGUF file, or org/name after binhdan pull. [default: the embedded model]"),
    ] = None,
    context: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="Tokens of context to estimate memory for. [default: the model's maximum]"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as one JSON object.")] = False,
) -> None:
    """Describe a GGUF file: sizes, quantization, tokenizer, and the memory that it needs."""
    path = find_model(file)
    facts: dict[str, Any] = json.loads(library().inspect(str(path)))
    facts["memory"] = estimate_memory(facts, context)
    if as_json:
        console.write(json.dumps(facts, ensure_ascii=False) + "\n")
    else:
        tables.write(tables.grid(_rows(str(path), facts)))


def estimate_memory(facts: dict[str, Any], context: int | None) -> dict[str, int | None]:
    """Bytes for the weights and for one conversation of `context` tokens (default: the model's maximum).

    The buffers of an engine, some megabytes, are not included. kv and total are None if the file lacks the
    figures for them.
    """
    weights = sum(kind["bytes"] for kind in facts["types"])
    context = context or facts["context"]
    per_token = facts["kv_bytes_per_token"]
    kv = None if context is None or per_token is None else per_token * context
    return {"context": context, "weights": weights, "kv": kv, "total": None if kv is None else weights + kv}


def _rows(path: str, facts: dict[str, Any]) -> list[tuple[str, str | Table]]:
    tokenizer, memory = facts["tokenizer"], facts["memory"]
    shape = ("layers", "embedding", "heads", "kv_heads", "head_dim")
    known = [f"{facts[key]:,} {key.replace('_', ' ')}" for key in shape if facts[key] is not None]
    rows: list[tuple[str, str | Table]] = [
        ("file", f"{path} (GGUF v{facts['version']})"),
        ("name", facts["name"] or "none"),
        ("architecture", facts["architecture"] or "none"),
        ("runs here", "yes" if facts["supported"] else f"no: {facts['reason']}"),
        *(("warning", warning) for warning in facts["warnings"]),
        ("parameters", f"{facts['parameters']:,}"),
        ("file size", _size(facts["file_bytes"])),
        ("shape", ", ".join(known) or "not stated"),
        ("context", "not stated" if facts["context"] is None else f"{facts['context']:,} tokens"),
        ("tokenizer", _describe_tokenizer(tokenizer)),
        *_describe_use(facts),
    ]
    types = [
        (
            kind["type"],
            f"{kind['tensors']} tensors",
            _size(kind["bytes"]),
            f"{kind['bytes'] / max(1, memory['weights']):.0%}",
        )
        for kind in facts["types"]
    ]
    rows.append(("quantization", tables.grid(types, "lrrr")))
    rows.append(("memory", _describe_memory(memory)))
    return rows


def _describe_tokenizer(tokenizer: dict[str, Any] | None) -> str:
    if tokenizer is None:
        return "none"
    kind = "/".join(part for part in (tokenizer["model"], tokenizer["pre"]) if part)
    template = "with" if tokenizer["has_chat_template"] else "without"
    return f"{kind or 'unnamed'}, {tokenizer['size']:,} tokens, {template} chat template"


def _describe_use(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Whether the model generates text, and how it embeds. Empty for a file that does not run here."""
    if facts["causal"] is None:
        return []
    use = "text, embeddings"
    if facts["pooling"] == "rank":
        use = "scores of documents (a reranker)"
    elif not facts["causal"]:
        use = "embeddings (an encoder)"
    return [("computes", use), ("causal", "yes" if facts["causal"] else "no"), ("pooling", facts["pooling"])]


def _describe_memory(memory: dict[str, int | None]) -> str:
    weights, kv, total, context = memory["weights"], memory["kv"], memory["total"], memory["context"]
    if kv is None or total is None or context is None:
        return (
            f"about {_size(weights or 0)} for the weights; the file does not state what a conversation needs"
        )
    parts = f"weights {_size(weights or 0)}, keys and values {_size(kv)}"
    return f"about {_size(total)} at {context:,} tokens: {parts}"


def _size(size: float) -> str:
    """For example "9.1 MB". Units are powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
