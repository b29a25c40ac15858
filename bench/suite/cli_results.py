"""`binhdan bench compare`, `report`, `history` (on results); `aa`, `ab`, `gate` (on two engines)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from binhdan.bench.common.files import write_whole
from binhdan.bench.common.options import Isa, Json, Model, Threads
from binhdan.bench.common.output import progress

if TYPE_CHECKING:
    from binhdan.bench.suite.pairs import Pairs

_Results = Annotated[list[Path], typer.Argument(metavar="A.json B.json …", help="Result files of bench run.")]
_Workloads = Annotated[
    list[str] | None,
    typer.Option("--workload", help="Name or .jsonl file; repeatable. Default: short chats documents."),
]
_Users = Annotated[list[int] | None, typer.Option(help="Users at once; repeatable. Default: 1 and 4.")]
_Rounds = Annotated[int, typer.Option(help="Trials of each case and engine, in turns.")]
_Python = Annotated[str, typer.Option("--python", help="New build: a Python interpreter that has binhdan.")]
_Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="Also write all figures to this JSON file.")
]
_GREEDY_ANSWERS = 12  # of each of the two kinds of questions


def compare(results: _Results) -> None:
    """Rank results of several boards or versions, with 95 % intervals."""
    from binhdan.bench.suite.compare import compare as compare_results
    from binhdan.bench.suite.result import load_result
    from binhdan.bench.suite.tables import ranking_table

    typer.echo(ranking_table(compare_results([load_result(path) for path in results])))


def report(
    result: Annotated[Path, typer.Argument(metavar="A.json", help="Result file of bench run.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="HTML file. Default: next to the result file.")
    ] = None,
) -> None:
    """Write one HTML page with the charts and all figures of a result."""
    from binhdan.bench.suite.report.page import page
    from binhdan.bench.suite.result import load_result

    path = output or result.with_suffix(".html")
    write_whole(path, page(load_result(result)))
    typer.echo(f"{path}", err=True)


def history(
    result: Annotated[
        Path | None, typer.Argument(help="Result file to append. Without it, only show the history.")
    ] = None,
    file: Annotated[Path, typer.Option(help="JSON Lines, one line per run.")] = Path("bench-history.jsonl"),
    last: Annotated[int, typer.Option(help="Lines to show.")] = 20,
) -> None:
    """Append a result to the history file, and show the figures of earlier runs."""
    from binhdan.bench.suite import history as entries
    from binhdan.bench.suite.result import load_result
    from binhdan.bench.suite.tables import history_table

    if result is not None:
        entries.append(file, entries.entry_of(load_result(result)))
    typer.echo(history_table(entries.read(file), last))


def aa(
    model: Model = None,
    threads: Threads = None,
    isa: Isa = None,
    workloads: _Workloads = None,
    users: _Users = None,
    rounds: _Rounds = 20,
    as_json: Json = False,
    output: _Output = None,
) -> None:
    """Compare this build with itself, in turns: is the machine quiet enough to measure on?"""
    from binhdan.bench.suite.pairs import verdict

    pairs = _measure(sys.executable, sys.executable, model, threads, isa, workloads, users, rounds)
    _show(pairs, as_json, output)
    if found := verdict(pairs):
        typer.echo("THE MACHINE IS DISTURBED", err=True)
        for finding in found:
            typer.echo(f"  - {finding.text}", err=True)
        raise typer.Exit(1)


def ab(
    a: Annotated[
        str,
        typer.Argument(help="A Python that has binhdan, llama-cpp-python, or a server's URL."),
    ],
    b: Annotated[str, typer.Argument(help="Same kinds as A. Default: this build.")] = sys.executable,
    model: Model = None,
    threads: Threads = None,
    isa: Isa = None,
    workloads: _Workloads = None,
    users: _Users = None,
    rounds: _Rounds = 20,
    as_json: Json = False,
    output: _Output = None,
) -> None:
    """Compare two engines or builds, in turns: B's time over A's, and how often their answers agree."""
    pairs = _measure(a, b, model, threads, isa, workloads, users, rounds, _GREEDY_ANSWERS)
    _show(pairs, as_json, output)


def gate(
    old: Annotated[str, typer.Argument(help="Old build: a Python interpreter that has binhdan.")],
    python: _Python = sys.executable,
    model: Model = None,
    threads: Threads = None,
    isa: Isa = None,
    workloads: _Workloads = None,
    users: _Users = None,
    rounds: _Rounds = 10,
    as_json: Json = False,
    output: _Output = None,
) -> None:
    """Compare two builds; fail when the new one's best trial is slower than the old one's worst."""
    from binhdan.bench.suite.pairs import regressions

    pairs = _measure(old, python, model, threads, isa, workloads, users, rounds)
    _show(pairs, as_json, output)
    if slower := regressions(pairs):
        typer.echo("SLOWER:\n" + "\n".join(f"  - {line}" for line in slower), err=True)
        raise typer.Exit(1)


def _measure(
    old: str,
    new: str,
    model: str | None,
    threads: int | None,
    isa: str | None,
    workloads: list[str] | None,
    users: list[int] | None,
    rounds: int,
    answers: int = 0,
) -> Pairs:
    from binhdan.bench.suite.cases import Settings
    from binhdan.bench.suite.pairs import Job, measure

    settings = Settings(
        workloads=tuple(workloads or ("short", "chats", "documents")),
        users=tuple(users or (1, 4)),
        prefixes=("cold",),
        open_load=0.0,
        rounds=rounds,
    )
    job = Job(model=model, threads=threads, isa=isa, settings=settings, answers=answers)
    with progress(rounds * len(settings.workloads) * len(settings.users)) as step:
        return measure(old, new, job, lambda total: step)


def _show(pairs: Pairs, as_json: bool, output: Path | None) -> None:
    from binhdan.bench.suite.tables import pairs_table

    if output is not None:
        write_whole(output, pairs.model_dump_json(indent=1))
    typer.echo(pairs.model_dump_json() if as_json else pairs_table(pairs))
