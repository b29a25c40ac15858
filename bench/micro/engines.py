"""The engines that `binhdan bench peers` compares. Each run is a process of its own, ours too: neither memory
nor threads of one reach the other, and all of them load the model and warm up anew each time.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import binhdan
from binhdan.bench.common.machine import peak_rss_bytes
from binhdan.bench.micro.case import Times, Workload

INSTALL_LLAMA_CPP_PYTHON = "pip install llama-cpp-python"


class EngineError(Exception):
    """An engine could not do a workload; the message is its own last word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of one engine. Rates are tokens per second, of all sequences together."""

    prompt: float | None
    decode: float | None
    version: str
    instruction_sets: str
    peak_rss_bytes: int  # of its process; Linux counts at least what the process that started it held


class Engine(Protocol):
    """Something that runs a workload. `name` is how tables call it."""

    @property
    def name(self) -> str: ...

    def run(self, workload: Workload) -> Run:
        """Raises EngineError."""


@dataclass(frozen=True)
class Binhdan:
    """This engine with a kernel table; "" is the fastest."""

    isa: str = ""

    @property
    def name(self) -> str:
        return f"binhdan {self.isa}".strip()

    def run(self, workload: Workload) -> Run:
        return _run_python_child("binhdan.bench.micro.child_binhdan", workload, self.isa)


@dataclass(frozen=True)
class LlamaCppPython:
    """llama.cpp as the installed llama-cpp-python brings it."""

    name: str = "llama-cpp-python"

    @staticmethod
    def installed() -> bool:
        return importlib.util.find_spec("llama_cpp") is not None

    def run(self, workload: Workload) -> Run:
        return _run_python_child("binhdan.bench.micro.child_llama_cpp", workload)


@dataclass(frozen=True)
class LlamaBench:
    """Programs of llama.cpp or its relatives: llama-bench, and llama-batched-bench for several sequences.

    Commands may hold options of their own, such as "llama-bench -rtr 1".
    """

    name: str
    bench: tuple[str, ...] = ()
    batched: tuple[str, ...] = ()

    def run(self, workload: Workload) -> Run:
        if workload.sequences > 1:
            if not self.batched:
                raise EngineError("several sequences need --llama-batched-bench")
            return self._run_batched(workload)
        if not self.bench:
            raise EngineError("one sequence needs --llama-bench")
        return self._run_bench(workload)

    def _run_bench(self, workload: Workload) -> Run:
        prompt, decode, depth = workload.prompt, workload.decode, workload.depth
        if depth == 0 or _has_option(self.bench, "--n-depth"):
            tests = ["-p", str(prompt), "-n", str(decode), *(["-d", str(depth)] if depth else [])]
            prompt_test, decode_test, before = (prompt, 0), (0, decode), None
        else:
            # ik_llama.cpp: -gp decodes after a prompt; a prompt at a depth is what a longer one takes longer.
            tests = ["-p", f"{depth},{depth + prompt}" if prompt else "0", "-n", "0"]
            tests += ["-gp", f"{depth},{decode}"] if decode else []
            prompt_test, decode_test, before = (depth + prompt, 0), (depth, decode), (depth, 0)
        output, peak = run_child(
            [
                *self.bench,
                "-m",
                str(workload.model),
                "-t",
                str(workload.threads),
                "-r",
                "1",
                "-o",
                "json",
                *tests,
            ]
        )
        entries = _json_entries(output)
        try:
            ns = {(entry["n_prompt"], entry["n_gen"]): float(entry["avg_ns"]) for entry in entries}
            prompt_ns = ns[prompt_test] - (ns[before] if before else 0) if prompt else None
            decode_ns = ns[decode_test] if decode else None
        except KeyError as missing:
            raise EngineError(f"its output lacks {missing}") from None
        return Run(
            prompt=_rate(prompt, prompt_ns),
            decode=_rate(decode, decode_ns),
            version=str(entries[0].get("build_commit", "")),
            instruction_sets="",
            peak_rss_bytes=peak,
        )

    def _run_batched(self, workload: Workload) -> Run:
        """llama-batched-bench decodes after a prompt, which stands for the depth, in each sequence."""
        if not workload.decode:
            raise EngineError("llama-batched-bench measures decoding")
        depth, sequences = max(workload.depth, 1), workload.sequences
        sizes = {"-c": (depth + workload.decode) * sequences, "-b": 2048, "-ub": 512}
        sizes |= {"-npp": depth, "-ntg": workload.decode, "-npl": sequences, "-t": workload.threads}
        output, peak = run_child(
            [*self.batched, "-m", str(workload.model), "--output-format", "jsonl"]
            + [text for option, value in sizes.items() for text in (option, str(value))]
        )
        (entry,) = _json_entries(output)
        return Run(
            prompt=None, decode=entry["speed_tg"], version="", instruction_sets="", peak_rss_bytes=peak
        )


def programs(bench: Iterable[str], batched: Iterable[str]) -> list[LlamaBench]:
    """Engines from "LABEL=COMMAND" of --llama-bench and --llama-batched-bench, joined by label.

    Raises InvalidArgumentError.
    """
    one, several = dict(map(_labelled, bench)), dict(map(_labelled, batched))
    return [LlamaBench(label, one.get(label, ()), several.get(label, ())) for label in one | several]


def _labelled(text: str) -> tuple[str, tuple[str, ...]]:
    label, _, command = text.partition("=")
    if not label or not (words := tuple(shlex.split(command))):
        raise binhdan.InvalidArgumentError(f"expected LABEL=COMMAND, got {text!r}")
    return label, words


# ---- child processes ---------------------------------------------------------------------------------------


def _run_python_child(module: str, workload: Workload, *arguments: str) -> Run:
    output, peak = run_child([sys.executable, "-m", module, workload.to_json(), *arguments])
    times = Times.from_json(output)
    return Run(
        prompt=_rate(workload.prompt, times.prompt and times.prompt * 1e9),
        decode=_rate(workload.decode * workload.sequences, times.decode and times.decode * 1e9),
        version=times.version,
        instruction_sets=times.instruction_sets,
        peak_rss_bytes=peak,
    )


def run_child(command: Sequence[str]) -> tuple[str, int]:
    """Standard output and peak memory of a command. Raises EngineError when it fails."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        except OSError as error:
            raise EngineError(f"cannot start {command[0]}: {error.strerror}") from error
        try:
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        except BaseException:
            child.kill()
            child.wait()
            raise
        out.seek(0)
        err.seek(0)
        if child.returncode:
            lines = err.read().decode("utf-8", "replace").strip().splitlines()
            how = f"exit code {child.returncode}" if child.returncode > 0 else f"signal {-child.returncode}"
            raise EngineError(lines[-1] if lines else f"{command[0]} ended with {how} and no word")
        return out.read().decode("utf-8", "replace"), peak_rss_bytes(usage)


@cache
def _has_option(command: tuple[str, ...], option: str) -> bool:
    output, _ = run_child([*command, "--help"])
    return option in output


def _json_entries(output: str) -> list[dict[str, Any]]:
    """One JSON array, or an object on each line, with other lines before it or between."""
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
    return tokens / ns * 1e9 if ns is not None and ns > 0 else None  # a difference of times may be nothing
