"""`binhdan info`: the contents of a model file, and whether this build can run it."""

from __future__ import annotations

import bisect
import json
from typing import Annotated, Any, Optional

import typer
from rich.table import Table

from binhdan.runtime.cli import console, tables
from binhdan.runtime.client.model import find_model
from binhdan.runtime.errors import InvalidArgumentError, UnsupportedError
from binhdan.runtime.ffi import library
from binhdan.runtime.options import size_in_bytes

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
    fit: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="SIZE", help="Show the longest context that fits in SIZE of memory, such as 1GB."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as one JSON object.")] = False,
) -> None:
    """Describe a GGUF file: sizes, quantization, tokenizer, and the memory that it needs."""
    path = find_model(file)
    facts: dict[str, Any] = json.loads(library().inspect(str(path)))
    facts["memory"] = estimate_memory(facts, context)
    if fit is not None:
        try:
            facts["fit"] = find_fit(facts, size_in_bytes(fit))
        except ValueError as error:
            raise InvalidArgumentError(f"--fit: {error}") from None
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


def find_fit(facts: dict[str, Any], memory: int) -> dict[str, Any]:
    """The longest context, in tokens, that fits in `memory` bytes with each type of keys and values.

    {"memory": bytes, "weights": bytes, "buffers": bytes, "contexts": {"f16": tokens, ...}}; 0 tokens:
    not even one page fits. Raises UnsupportedError for a file that does not run here.
    """
    needs = facts["needs"]
    if needs is None:
        raise UnsupportedError(f"--fit: this file does not run here: {facts['reason']}")
    left = memory - needs["weights"] - needs["buffers"]
    contexts = {name: _longest_context(needs, kv, left, facts["context"]) for name, kv in needs["kv"].items()}
    return {"memory": memory, "weights": needs["weights"], "buffers": needs["buffers"], "contexts": contexts}


def _longest_context(needs: dict[str, Any], kv: dict[str, int], memory: int, limit: int) -> int:
    def fits(pages: int) -> bool:
        windows = min(pages, kv["window_pages"])
        return kv["fixed"] + pages * kv["page"] + windows * kv["window_page"] <= memory

    most = -(-limit // needs["page_tokens"])
    pages = bisect.bisect_left(range(1, most + 1), True, key=lambda count: not fits(count))
    return min(limit, pages * int(needs["page_tokens"]))


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
    if "fit" in facts:
        rows.append(("fits", _describe_fit(facts["fit"])))
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


def _describe_fit(fit: dict[str, Any]) -> str:
    parts = f"weights {_size(fit['weights'])}, buffers {_size(fit['buffers'])}"
    contexts = [
        f"{tokens:,} tokens of context with {name} keys and values"
        for name, tokens in fit["contexts"].items()
        if tokens > 0
    ]
    if not contexts:
        return f"no: {_size(fit['memory'])} is too little ({parts}); use a smaller tensor type or model"
    return f"in {_size(fit['memory'])}: {', or '.join(contexts)} ({parts})"


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
