"""Result files from the `--json` output of the commands in COMMANDS."""

from __future__ import annotations

import json
from dataclasses import fields
from datetime import date
from pathlib import Path
from typing import Any

from binhdan.bench.common.machine import Machine
from binhdan.bench.common.results import FORMAT, to_text
from binhdan.bench.load import compare
from binhdan.runtime.errors import InvalidArgumentError

Object = dict[str, Any]
COMMANDS = ("bench peers", "bench embeddings", "bench profile", "bench load compare")


def record(text: str, *, title: str, day: date, commands: list[str]) -> str:
    """The text of a result file. `text`: output of a command. Raises InvalidArgumentError."""
    try:
        output = json.loads(text)
        if isinstance(output, list):
            kind, source, key, rows = "peers", output[0], "rows", _peers(output)
            conditions = [f"{source['rounds']} rounds", f"{source['case']['threads']} threads"]
        elif "texts" in output:
            kind, source, key, rows = "embeddings", output, "rows", _embeddings(output)
            conditions = [
                f"{source['rounds']} rounds",
                f"{source['threads']} threads",
                f"{source['texts']} texts",
                f"{source['characters'] / source['texts']:.0f} characters in a text on average",
            ]
        elif "limits" in output:
            kind, source, key, rows = "profile", output, "passes", _passes(output)
            conditions = []
        elif output["schema"] == compare.SCHEMA:
            kind, source, key, rows = "servers", output, "rows", _servers(output)
            conditions = [f"{source['rounds']} rounds", f"model {source['model']}", _sizes(source["sizes"])]
        else:
            raise ValueError(f"schema {output['schema']!r:.60}")
        machine = {one.name: source["machine"][one.name] for one in fields(Machine)}
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise InvalidArgumentError(
            f"expected the --json output of {', '.join(COMMANDS)}; got something else: {error!r}"
        ) from error
    head = {
        "format": FORMAT,
        "kind": kind,
        "title": title,
        "date": day.isoformat(),
        "machine": machine,
        "conditions": conditions,
        "versions": _versions(source),
        "commands": commands,
    }
    return to_text(head, key, rows)


def _versions(source: Object) -> dict[str, str]:
    if "version" in source:
        return {"binhdan": source["version"]}
    versions = {
        one["name"]: " ".join(filter(None, (one["version"], one["instruction_sets"])))
        for one in source.get("results", [])
    }
    return {name: version for name, version in versions.items() if version}


def _peers(comparisons: list[Object]) -> list[Object]:
    return [_peer(one, result) for one in comparisons for result in one["results"] if not result["failure"]]


def _embeddings(comparison: Object) -> list[Object]:
    return [
        {"file": Path(comparison["model"]).stem, "engine": one["name"], "rate": one["texts_per_s"]}
        | ({"ratio": one["ratio"]} if one["ratio"] else {})
        for one in comparison["results"]
    ]


def _peer(comparison: Object, result: Object) -> Object:
    row = {"file": Path(comparison["case"]["model"]).stem, "engine": result["name"]}
    row |= {key: result[key] for key in ("prompt", "prompt_ratio", "decode", "decode_ratio") if result[key]}
    if result["decode"] and comparison["decode_limit"]:
        row["decode_share"] = round(100 * result["decode"]["median"] / comparison["decode_limit"])
    return row


def _servers(comparison: Object) -> list[Object]:
    keys = {
        "rate": "tokens_per_s",
        "rate_ratio": "tokens_per_s_ratio",
        "ttft_s": "ttft_p95_s",
        "ttft_ratio": "ttft_p95_ratio",
    }
    rows = []
    for result in comparison["results"]:
        if result["failure"]:
            continue
        arrivals = result["arrivals"]
        users = arrivals.get("users")
        load = f"{arrivals['rate']:g} requests/s" if users is None else f"{users} users"
        row = {"load": "1 user" if users == 1 else load, "server": result["server"]}
        row |= {key: result[name] for key, name in keys.items() if result[name]}
        if result["peak_rss_bytes"]:
            row["memory_mb"] = round(result["peak_rss_bytes"] / 1e6)
        rows.append(row)
    return rows


def _sizes(sizes: Object) -> str:
    system, question, answer = (sizes[name] for name in ("system", "question", "answer"))
    return f"system prompt of {system} tokens, questions of {question}, answers of {answer}"


def _passes(profile: Object) -> list[Object]:
    case, limits = profile["case"], profile["limits"]
    depth = f" at depth {case['depth']:,}" if case["depth"] else ""
    names = {"prompt": f"prompt of {case['prompt']}{depth}", "decode": f"one step{depth}"}
    return [
        {
            "model": Path(case["model"]).stem,
            "kernels": profile["isa"],
            "name": name,
            "threads": case["threads"],
            "kv_type": profile["kv_type"],
            "limit_gb_per_s": round(limits["gb_per_s"], 1),
            "limit_gops": round(limits["gops"]),
            "total_ms": profile[phase]["ms"],
            "operations": [_operation(one, profile[phase]["ms"]) for one in profile[phase]["operations"]],
        }
        for phase, name in names.items()
        if profile[phase]
    ]


def _operation(operation: Object, total_ms: float) -> Object:
    row = {
        "name": operation["name"],
        "ms": operation["ms"],
        "share": round(100 * operation["ms"] / total_ms, 1),
    }
    row |= {key: operation[key] for key in ("gb_per_s", "gops") if operation[key]}
    if operation["limit_share"]:
        row["limit_share"] = round(100 * operation["limit_share"])
    return row
