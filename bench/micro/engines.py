"""The engines that `binhdan bench peers` compares.

Each trial runs in its own process, ours too: engines share neither memory nor threads, and each process loads
the model and warms up.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import binhdan
from binhdan.bench.common.child import EngineError, run_child
from binhdan.bench.micro.case import Case, Times

__all__ = ["Binhdan", "Engine", "EngineError", "LlamaBench", "LlamaCppPython", "Trial", "programs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One measurement of a case on one engine. Rates are tokens per second of all sequences together."""

    prompt: float | None
    decode: float | None
    version: str
    instruction_sets: str
    peak_rss_bytes: int  # of the child process; on Linux at least the memory of its parent


class Engine(Protocol):
    """Runs a case. `name` is shown in tables."""

    @property
    def name(self) -> str: ...

    def run(self, case: Case) -> Trial:
        """Raises EngineError."""


@dataclass(frozen=True)
class Binhdan:
    """This engine with one kernel table; "" selects the fastest."""

    isa: str = ""

    @property
    def name(self) -> str:
        return f"binhdan {self.isa}".strip()

    def run(self, case: Case) -> Trial:
        return _run_module("binhdan.bench.micro.engine_child", case, self.isa)


@dataclass(frozen=True)
class LlamaCppPython:
    """llama.cpp as built into the installed llama-cpp-python."""

    name: str = "llama-cpp-python"

    def run(self, case: Case) -> Trial:
        return _run_module("binhdan.bench.micro.llama_cpp", case)


@dataclass(frozen=True)
class LlamaBench:
    """Programs of llama.cpp or its forks: llama-bench, and llama-batched-bench for several sequences.

    A command may contain options, such as "llama-bench -rtr 1".
    """

    name: str
    bench: tuple[str, ...] = ()
    batched: tuple[str, ...] = ()

    def run(self, case: Case) -> Trial:
        if case.sequences > 1:
            if not self.batched:
                raise EngineError("several sequences need --llama-batched-bench")
            return self._run_batched(case)
        if not self.bench:
            raise EngineError("one sequence needs --llama-bench")
        return self._run_bench(case)

    def _run_bench(self, case: Case) -> Trial:
        prompt, decode, depth = case.prompt, case.decode, case.depth
        if depth == 0 or _has_option(self.bench, "--n-depth"):
            tests = ["-p", str(prompt), "-n", str(decode), *(["-d", str(depth)] if depth else [])]
            prompt_test, decode_test, before = (prompt, 0), (0, decode), None
        else:
            # ik_llama.cpp has no -d. Decode: -gp decodes after a prompt of `depth`. Prompt: the time of a
            # prompt of depth + prompt tokens minus the time of one of depth tokens.
            tests = ["-p", f"{depth},{depth + prompt}" if prompt else "0", "-n", "0"]
            tests += ["-gp", f"{depth},{decode}"] if decode else []
            prompt_test, decode_test, before = (depth + prompt, 0), (depth, decode), (depth, 0)
        options = ["-m", str(case.model), "-t", str(case.threads), "-r", "1", "-o", "json"]
        output, peak = run_child([*self.bench, *options, *tests])
        entries = _json_entries(output)
        try:
            ns = {(entry["n_prompt"], entry["n_gen"]): float(entry["avg_ns"]) for entry in entries}
            prompt_ns = ns[prompt_test] - (ns[before] if before else 0) if prompt else None
            decode_ns = ns[decode_test] if decode else None
        except KeyError as missing:
            raise EngineError(f"{self.bench[0]}: its output lacks {missing}") from None
        return Trial(
            prompt=_rate(prompt, prompt_ns),
            decode=_rate(decode, decode_ns),
            version=str(entries[0].get("build_commit", "")),
            instruction_sets="",
            peak_rss_bytes=peak,
        )

    def _run_batched(self, case: Case) -> Trial:
        """llama-batched-bench decodes after a prompt in each sequence: the prompt is the depth."""
        if not case.decode:
            raise EngineError("llama-batched-bench measures only decode: set --decode above 0")
        depth, sequences = max(case.depth, 1), case.sequences
        sizes = {"-c": (depth + case.decode) * sequences, "-b": 2048, "-ub": 512}
        sizes |= {"-npp": depth, "-ntg": case.decode, "-npl": sequences, "-t": case.threads}
        output, peak = run_child(
            [*self.batched, "-m", str(case.model), "--output-format", "jsonl"]
            + [text for option, value in sizes.items() for text in (option, str(value))]
        )
        (entry,) = _json_entries(output)
        return Trial(
            prompt=None, decode=entry["speed_tg"], version="", instruction_sets="", peak_rss_bytes=peak
        )


def programs(bench: Iterable[str], batched: Iterable[str]) -> list[LlamaBench]:
    """Engines from the "LABEL=COMMAND" values of --llama-bench and --llama-batched-bench, joined by label.

    Raises InvalidArgumentError.
    """
    single, several = dict(map(_labelled, bench)), dict(map(_labelled, batched))
    return [LlamaBench(label, single.get(label, ()), several.get(label, ())) for label in single | several]


def _labelled(text: str) -> tuple[str, tuple[str, ...]]:
    label, _, command = text.partition("=")
    if not label or not (words := tuple(shlex.split(command))):
        raise binhdan.InvalidArgumentError(f"expected LABEL=COMMAND, got {text!r}")
    return label, words


def _run_module(module: str, case: Case, *arguments: str) -> Trial:
    output, peak = run_child([sys.executable, "-m", module, case.to_json(), *arguments])
    times = Times.from_json(output)
    return Trial(
        prompt=_rate(case.prompt, times.prompt and times.prompt * 1e9),
        decode=_rate(case.decode * case.sequences, times.decode and times.decode * 1e9),
        version=times.version,
        instruction_sets=times.instruction_sets,
        peak_rss_bytes=peak,
    )


@cache
def _has_option(command: tuple[str, ...], option: str) -> bool:
    output, _ = run_child([*command, "--help"])
    return option in output


def _json_entries(output: str) -> list[dict[str, Any]]:
    """The objects of one JSON array, or of one object per line. Other lines are ignored."""
    try:
        if (start := output.find("[\n")) >= 0:
            entries = json.loads(output[start : output.rindex("]") + 1])
        else:
            entries = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    except ValueError as error:
        raise EngineError(f"cannot read its output as JSON: {error}") from error
    if not entries:
        raise EngineError("its output holds no JSON")
    return list(entries)


def _rate(tokens: int, ns: float | None) -> float | None:
    """Tokens per second; None when the time, a difference of two, is not positive."""
    return tokens / ns * 1e9 if ns is not None and ns > 0 else None
