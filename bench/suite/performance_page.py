"""Writes the tables of docs/performance.md and of the READMEs from the result files in bench/results/.

    python -m binhdan.bench.suite.performance_page --write     # from the root of the repository
    python -m binhdan.bench.suite.performance_page --check     # fails when a page differs from the files
    python -m binhdan.bench.suite.performance_page --record peers.json -o bench/results/NAME.json

A page marks the place of a table with two comments. The command replaces the lines between them:

    <!-- results: NAME.json -->          commands, table, date, machine and conditions
    <!-- results table: NAME.json -->    the table alone; "NAME.json vi" for Vietnamese
    <!-- end results -->

`--record` converts the output of `binhdan bench peers --json`. Numbers are printed with the digits that the
file holds, rounded to the digits of the column.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from binhdan.bench.common.files import read_whole, write_whole
from binhdan.bench.common.machine import Machine
from binhdan.runtime.errors import BadFormatError, BinhdanError, InvalidArgumentError

PAGES = ("docs/performance.md", "README.md", "README.vi.md")
RESULTS = "bench/results"
COMMAND = "python -m binhdan.bench.suite.performance_page --write"
FORMAT: Final = 1

_MAX_BYTES = 1 << 20
_BLOCK = re.compile(
    r"(?P<open><!-- results(?P<table> table)?: (?P<name>[\w.-]+\.json)(?: (?P<language>\w+))? -->\n)"
    r"(?P<body>.*?)(?P<close><!-- end results -->)",
    re.DOTALL,
)


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _decimal(value: object) -> object:
    """Decimals keep the digits of the file: 1.80 stays 1.80."""
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
        raise ValueError(f"expected a number, got {str(value)[:40]!r}")
    return Decimal(value)


Number = Annotated[Decimal, BeforeValidator(_decimal)]


class Spread(_Record):
    """A median with the smallest and the largest value, if recorded."""

    median: Number
    low: Number | None = None
    high: Number | None = None


Value = str | Number | Spread | dict[Literal["en", "vi"], str]


class Operation(_Record):
    """One line of `binhdan bench profile`: shares are per cent."""

    name: str
    ms: Number
    share: Number | None = None
    gb_per_s: Number | None = None
    gops: Number | None = None
    limit_share: Number | None = None


class ProfiledPass(_Record):
    """One pass of `binhdan bench profile`, with the limits that were measured before it."""

    model: str
    kernels: str
    name: str
    threads: int
    kv_type: str
    limit_gb_per_s: Number
    limit_gops: Number
    operations: list[Operation]
    total_ms: Number


Kind = Literal[
    "peers",
    "sequences",
    "servers",
    "overhead",
    "prefix",
    "soak",
    "profile",
    "step",
    "start",
    "accuracy",
    "speed",
]


class Results(_Record):
    """One result file: the figures of one table, and what is needed to repeat them."""

    format: Literal[1]
    kind: Kind  # selects the columns
    title: str
    date: date | None  # None: not recorded
    machine: Machine | None  # None: not recorded completely; `conditions` holds the known facts
    conditions: list[str]  # facts about the machine and the run that no other field holds
    versions: dict[str, str]  # program -> version, and how it was built
    commands: list[str]
    rows: list[dict[str, Value]] = Field(default=[])
    passes: list[ProfiledPass] = Field(default=[])  # kind "profile" only


def load_results(path: Path) -> Results:
    """Raises FileReadError, and BadFormatError with the field."""
    data = read_whole(path, _MAX_BYTES)
    try:
        content = json.loads(data, parse_float=Decimal)
        if isinstance(content, dict) and isinstance(content.get("date"), str):
            content["date"] = date.fromisoformat(content["date"])
    except (ValueError, RecursionError) as error:
        raise BadFormatError(f"{path}: expected a result file in JSON: {error}") from error
    try:
        return Results.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise BadFormatError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


# ---- numbers -------------------------------------------------------------------------------------------


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


# ---- tables --------------------------------------------------------------------------------------------


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
    return _markdown(rows, numeric)


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
    return f"{head}\n\n{_markdown(rows, [False] + [True] * 5)}"


def _markdown(rows: Sequence[Sequence[str]], numeric: Sequence[bool]) -> str:
    """`rows`: the header first. `numeric`: columns that are aligned right."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "| " + " | ".join("---:" if right else "---" for right in numeric) + " |")
    return "\n".join(lines)


def block(results: Results, link: str) -> str:
    """Commands, table, and a line with the file, the date, the machine and the conditions."""
    parts = ["```\n" + "\n".join(results.commands) + "\n```"] if results.commands else []
    parts.append(table(results))
    facts = [f"{results.date}" if results.date else "date not recorded"]
    if results.machine:
        facts.append(f"{results.machine.processor}, {results.machine.cores} cores, {results.machine.system}")
    facts += results.conditions
    parts.append(f"[{Path(link).name}]({link}): {'; '.join(facts)}.")
    return "\n\n".join(parts)


# ---- pages ---------------------------------------------------------------------------------------------


def rewritten(page: Path, root: Path) -> str:
    """The text of `page` with all blocks written anew. Raises BinhdanError."""
    text = page.read_text("utf-8")
    opened, found = text.count("<!-- results"), len(_BLOCK.findall(text))
    if opened != found:
        raise BadFormatError(
            f"{page}: expected '<!-- results: NAME.json -->' and '<!-- end results -->' around each table, "
            f"got {opened} beginnings and {found} complete blocks"
        )

    def replace(match: re.Match[str]) -> str:
        path = root / RESULTS / match["name"]
        results = load_results(path)
        link = Path(os.path.relpath(path, page.parent)).as_posix()
        body = table(results, match["language"] or "en") if match["table"] else block(results, link)
        return f"{match['open']}{body}\n{match['close']}"

    return _BLOCK.sub(replace, text)


def outdated(root: Path) -> list[str]:
    """Pages whose tables differ from the result files, and result files that no page shows."""
    found = []
    used: set[str] = set()
    for name in PAGES:
        text = (root / name).read_text("utf-8")
        used |= {match["name"] for match in _BLOCK.finditer(text)}
        if rewritten(root / name, root) != text:
            found.append(f"{name} differs from the result files: run {COMMAND}")
    unused = {path.name for path in (root / RESULTS).glob("*.json")} - used
    return found + [f"{RESULTS}/{name}: no page shows this file" for name in sorted(unused)]


# ---- new measurements ----------------------------------------------------------------------------------


def record_peers(text: str, *, title: str, day: date, commands: list[str]) -> str:
    """A result file from the output of `binhdan bench peers --json`. Raises InvalidArgumentError."""
    try:
        comparisons = json.loads(text)
        first = comparisons[0]
        rows = [_peer(one, row) for one in comparisons for row in one["results"] if not row["failure"]]
        versions = {
            row["name"]: " ".join(filter(None, (row["version"], row["instruction_sets"])))
            for row in first["results"]
        }
        machine = {one.name: first["machine"][one.name] for one in fields(Machine)}
        conditions = [f"{first['rounds']} rounds", f"{first['case']['threads']} threads"]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise InvalidArgumentError(
            f"expected the output of 'binhdan bench peers --json', got something else: {error!r}"
        ) from error
    head = {
        "format": FORMAT,
        "kind": "peers",
        "title": title,
        "date": day.isoformat(),
        "machine": machine,
        "conditions": conditions,
        "versions": {name: version for name, version in versions.items() if version},
        "commands": commands,
    }
    return to_text(head, rows)


def _peer(comparison: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    row = {"file": Path(comparison["case"]["model"]).stem, "engine": result["name"]}
    row |= {key: result[key] for key in ("prompt", "prompt_ratio", "decode", "decode_ratio") if result[key]}
    if result["decode"] and comparison["decode_limit"]:
        row["decode_share"] = round(100 * result["decode"]["median"] / comparison["decode_limit"])
    return row


def to_text(head: dict[str, Any], rows: Sequence[dict[str, Any]]) -> str:
    """The text of a result file: one line per row, so that a change of one figure is a change of one line."""
    lines = json.dumps(head, ensure_ascii=False, indent=1).removesuffix("\n}")
    body = ",\n".join(f"  {json.dumps(row, ensure_ascii=False)}" for row in rows)
    return f'{lines},\n "rows": [\n{body}\n ]\n}}\n'


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="performance_page", description=(__doc__ or "").splitlines()[0])
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--check", action="store_true", help="fail when a page differs from the files")
    action.add_argument("--write", action="store_true", help="write the tables into the pages")
    action.add_argument("--record", type=Path, metavar="PEERS.json", help="output of bench peers --json")
    parser.add_argument("-o", "--output", type=Path, help="result file that --record writes")
    parser.add_argument("--title", default="", help="title of the recorded result file")
    parser.add_argument("--command", action="append", default=[], help="command that measured it; repeatable")
    parser.add_argument("--root", type=Path, default=Path(), help="root of the repository; default: here")
    options = parser.parse_args(arguments)
    try:
        if options.record:
            if options.output is None:
                raise InvalidArgumentError("--record needs --output, the result file to write")
            text = options.record.read_text("utf-8")
            written = record_peers(text, title=options.title, day=date.today(), commands=options.command)
            write_whole(options.output, written)
        elif options.write:
            for name in PAGES:
                write_whole(options.root / name, rewritten(options.root / name, options.root))
        elif found := outdated(options.root):
            print("\n".join(found), file=sys.stderr)
            return 1
    except (BinhdanError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
