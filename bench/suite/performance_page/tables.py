"""Markdown tables of result files. The columns of a table follow from the kind of the file.

A number is printed with the digits that the file holds, rounded to the digits of its column.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from binhdan.bench.common.results import ProfiledPass, Results, Value
from binhdan.runtime.errors import BadFormatError


def rate_digits(value: Decimal) -> int:
    return 0 if value >= 100 else 1


def ratio_digits(value: Decimal) -> int:
    return 1 if value >= 10 else 2 if value >= Decimal("0.1") else 3


def number(value: Decimal, digits: int) -> str:
    """Rounded to `digits` decimal places, and never more places than `value` has."""
    exponent = value.as_tuple().exponent
    places = min(digits, max(0, -exponent) if isinstance(exponent, int) else 0)
    return f"{value:,.{places}f}".replace("-", "\N{MINUS SIGN}")


def _text(value: Value, digits: Callable[[Decimal], int], language: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return value["vi" if language == "vi" else "en"]
    if isinstance(value, Decimal):
        return number(value, digits(abs(value)))
    places = digits(abs(value.median))
    if value.low is None or value.high is None:
        return number(value.median, places)
    return f"{number(value.median, places)} ({number(value.low, places)}–{number(value.high, places)})"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: `key` of the rows. `unit` follows each number."""

    header: str
    key: str
    digits: Callable[[Decimal], int] = ratio_digits
    unit: str = ""
    vietnamese: str = ""  # header in README.vi.md


_RATE = "tokens/s"
COLUMNS: dict[str, tuple[Column, ...]] = {
    "peers": (
        Column("file", "file"),
        Column("engine", "engine"),
        Column(f"prompt, {_RATE}", "prompt", rate_digits),
        Column("ratio", "prompt_ratio"),
        Column(f"decode, {_RATE}", "decode", rate_digits),
        Column("ratio", "decode_ratio"),
        Column("share of memory bandwidth", "decode_share", lambda value: 0, " %"),
        Column("number format", "precision"),
        Column("note", "note"),
    ),
    "embeddings": (
        Column("file", "file"),
        Column("engine", "engine"),
        Column("texts/s", "rate", rate_digits),
        Column("ratio", "ratio"),
    ),
    "sequences": (
        Column("sequences", "sequences"),
        Column("engine", "engine"),
        Column(f"{_RATE}, all together", "decode", rate_digits),
        Column("ratio", "ratio"),
        Column("peak memory", "memory_mb", rate_digits, " MB"),
    ),
    "servers": (
        Column("load", "load"),
        Column("server", "server"),
        Column(f"{_RATE}, all together", "rate", rate_digits),
        Column("ratio", "rate_ratio"),
        Column("TTFT p95, s", "ttft_s"),
        Column("ratio", "ttft_ratio"),
        Column("median answer, s", "answer_s", rate_digits),
        Column("peak memory", "memory_mb", rate_digits, " MB"),
    ),
    "overhead": (
        Column("sequences", "sequences"),
        Column("in process, ms per token", "in_process_ms", rate_digits),
        Column("through the server, ms per token", "served_ms", rate_digits),
        Column("overhead, median", "overhead", rate_digits, " %"),
        Column("overhead, best round of each", "best_overhead", rate_digits, " %"),
    ),
    "prefix": (
        Column("prefix", "prefix"),
        Column("TTFT, ms", "ttft_ms", rate_digits),
        Column("share of the cold TTFT", "share"),
        Column("cached tokens", "cached_tokens"),
    ),
    "soak": (
        Column("mode", "mode"),
        Column("requests", "requests"),
        Column("clients", "clients"),
        Column("duration", "seconds", rate_digits, " s"),
        Column("answers compared", "answers"),
        Column("different answers", "different"),
        Column("lost or stuck", "lost"),
        Column("HTTP 5xx", "server_errors"),
        Column("largest change of memory after the warm-up", "rss_drift", unit=" %"),
        Column("open descriptors before and after", "descriptors"),
    ),
    "step": (
        Column("file", "file"),
        Column("kernels", "kernels"),
        Column("one decode step reads", "read_mb", rate_digits, " MB"),
        Column("share of memory bandwidth", "share", unit=" %"),
    ),
    "start": (
        Column("file", "file"),
        Column("file size", "file_mib", rate_digits, " MiB"),
        Column("program", "program"),
        Column("time", "ms", rate_digits, " ms"),
        Column("until", "until"),
        Column("ratio", "ratio"),
        Column("peak memory", "memory_mib", rate_digits, " MiB"),
    ),
    "instructions": (
        Column("file", "file"),
        Column("processor", "cpu"),
        Column("table", "isa"),
        Column("prefill", "prefill", rate_digits),
        Column("llama.cpp", "llama_prefill", rate_digits),
        Column("ratio", "prefill_ratio"),
        Column("decode", "decode", rate_digits),
        Column("llama.cpp", "llama_decode", rate_digits),
        Column("ratio", "decode_ratio"),
    ),
    "loops": (
        Column("table", "isa"),
        Column("core of the model", "core"),
        Column("type", "type"),
        Column("prefill, multiply-adds a cycle", "macs", rate_digits),
        Column("of the peak", "share", rate_digits, " %"),
        Column("decode, cycles for 16 rows x 32 columns", "decode_cycles", rate_digits),
    ),
    "predictions": (
        Column("board", "board"),
        Column("file", "file"),
        Column("prefill, tokens/s, predicted", "prefill", rate_digits),
        Column("decode, tokens/s, predicted", "decode", rate_digits),
        Column("limit of decode", "bound"),
    ),
    "accuracy": (
        Column("kernels, numeric class", "engine"),
        Column("mean KL divergence", "kl"),
        Column("top-1 agreement", "top1", rate_digits, " %"),
        Column("KL / llama.cpp's KL", "ratio"),
    ),
    "speed": (
        Column("model", "model", vietnamese="mô hình"),
        Column("prompt of 512", "prompt", rate_digits, " tokens/s", "lời nhắc 512 token"),
        Column("decode of 64", "decode", rate_digits, " tokens/s", "sinh 64 token"),
        Column("decode reads", "gb_per_s", rate_digits, " GB/s", "đọc bộ nhớ khi sinh"),
        Column("share of memory bandwidth", "bandwidth_share", vietnamese="so với băng thông bộ nhớ"),
    ),
}


def table(results: Results, language: str = "en") -> str:
    """The Markdown table of a result file. A column that no row fills is left out."""
    if results.kind == "profile":
        return "\n\n".join(map(_profile, results.passes))
    columns = [one for one in COLUMNS[results.kind] if any(one.key in row for row in results.rows)]
    if unknown := {key for row in results.rows for key in row} - {one.key for one in columns}:
        raise BadFormatError(f"{results.title}: kind {results.kind} has no column for {sorted(unknown)}")
    rows = [[one.vietnamese or one.header if language == "vi" else one.header for one in columns]]
    rows += [[_cell(row, column, language) for column in columns] for row in results.rows]
    numeric = [
        any(not isinstance(row.get(one.key, ""), (str, dict)) for row in results.rows) for one in columns
    ]
    return markdown(rows, numeric)


def _cell(row: dict[str, Value], column: Column, language: str) -> str:
    if column.key not in row:
        return ""
    value = row[column.key]
    unit = "" if isinstance(value, (str, dict)) else column.unit
    return _text(value, column.digits, language) + unit


def _profile(measured: ProfiledPass) -> str:
    head = (
        f"**{measured.model}, kernels `{measured.kernels}`, {measured.name}** ({measured.threads} threads, "
        f"keys and values {measured.kv_type}; limits: {measured.limit_gb_per_s} GB/s of memory, "
        f"{number(measured.limit_gops, 0)} GOPS in registers)"
    )
    rows = [["operation", "ms", "share of the time", "GB/s", "GOPS", "share of the limit"]]
    rows += [
        [
            one.name,
            number(one.ms, 3),
            "" if one.share is None else f"{one.share} %",
            "" if one.gb_per_s is None else number(one.gb_per_s, 1),
            "" if one.gops is None else number(one.gops, 0),
            "" if one.limit_share is None else f"{one.limit_share} %",
        ]
        for one in measured.operations
    ]
    rows.append(["total", number(measured.total_ms, 3), "", "", "", ""])
    return f"{head}\n\n{markdown(rows, [False] + [True] * 5)}"


def markdown(rows: Sequence[Sequence[str]], numeric: Sequence[bool]) -> str:
    """`rows`: the header first. `numeric`: columns that are aligned right."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "| " + " | ".join("---:" if right else "---" for right in numeric) + " |")
    return "\n".join(lines)
