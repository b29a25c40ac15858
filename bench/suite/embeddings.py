"""`binhdan bench embeddings`: short texts per second of this engine and of llama-cpp-python, in turns."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import binhdan
from binhdan.bench.common.child import EngineError, run_child
from binhdan.bench.common.machine import Machine, this_machine
from binhdan.bench.common.statistics import Spread
from binhdan.bench.common.tables import columns, spread_text
from binhdan.bench.micro.embedding_child import EmbeddingCase, EmbeddingTrial
from binhdan.bench.suite.workloads import load_workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """All trials of one engine."""

    name: str
    version: str
    instruction_sets: str
    texts_per_s: Spread
    ratio: Spread | None  # the first engine's rate over this one's, of the same round; None for the first


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All engines on the same texts."""

    machine: Machine
    model: str
    threads: int
    texts: int
    characters: int  # of all texts
    rounds: int
    results: list[Result]


def short_texts(count: int) -> list[str]:
    """`count` different Vietnamese texts of one sentence: numbered questions and answers of the workloads."""
    sentences = [
        message.content
        for name in ("short", "diacritics")
        for item in load_workload(name).items
        for message in item.messages
        if message.role != "system" and len(message.content) <= 120
    ]
    return [f"{i}. {text}" for i, text in enumerate(islice(cycle(sentences), count), 1)]


def compare(
    engines: Sequence[str],
    case: EmbeddingCase,
    rounds: int,
    progress: Callable[[int, str], None] = lambda turn, name: None,
) -> Comparison:
    """Runs one trial of each engine per round, each in its own process, with a different one first each time.

    Raises BinhdanError when an engine fails.
    """
    if rounds < 1:
        raise binhdan.InvalidArgumentError(f"rounds: expected at least 1, got {rounds}")
    trials: list[list[EmbeddingTrial]] = [[] for _ in engines]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "case.json"
        file.write_text(case.to_json(), encoding="utf-8")
        for turn in range(rounds):
            for position in range(len(engines)):
                index = (turn + position) % len(engines)
                progress(turn, engines[index])
                trials[index].append(_run(engines[index], file))
    rates = [[len(case.texts) / trial.seconds for trial in one] for one in trials]
    return Comparison(
        machine=this_machine(),
        model=case.model.name,
        threads=case.threads,
        texts=len(case.texts),
        characters=sum(map(len, case.texts)),
        rounds=rounds,
        results=[
            Result(
                name=name,
                version=one[0].version,
                instruction_sets=one[0].instruction_sets,
                texts_per_s=Spread.of(rate),
                ratio=Spread.of([a / b for a, b in zip(rates[0], rate, strict=True)]) if i else None,
            )
            for i, (name, one, rate) in enumerate(zip(engines, trials, rates, strict=True))
        ],
    )


def _run(engine: str, case: Path) -> EmbeddingTrial:
    try:
        output, _ = run_child(
            [sys.executable, "-m", "binhdan.bench.micro.embedding_child", engine, str(case)]
        )
        return EmbeddingTrial(**json.loads(output.splitlines()[-1]))
    except (EngineError, IndexError, ValueError, TypeError) as error:
        raise binhdan.BinhdanError(f"{engine}: {error}") from error


def table(comparison: Comparison) -> str:
    """The comparison as text."""
    head = (
        f"{comparison.model}: {comparison.texts:,} texts of {comparison.characters / comparison.texts:.0f}"
        f" characters on average, {comparison.threads} threads\n"
        f"texts/s, medians of {comparison.rounds} rounds (minimum to maximum); ratio: how many times as fast"
        f" {comparison.results[0].name} is"
    )
    rows = [["engine", "texts/s", "ratio", "version"]]
    rows += [
        [
            one.name,
            spread_text(one.texts_per_s, "{:,.0f}"),
            spread_text(one.ratio, "{:.2f}"),
            one.version,
        ]
        for one in comparison.results
    ]
    return "\n".join([head, "", columns(rows)])
