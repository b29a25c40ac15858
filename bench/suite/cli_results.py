"""`binhdan bench compare`, `history`, `aa`, `ab` and `gate`: what is made of results, and of two engines."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from binhdan.bench.common.files import write_whole
from binhdan.bench.common.output import progress

if TYPE_CHECKING:
    from binhdan.bench.suite.pairs import Pairs

_Results = Annotated[list[Path], typer.Argument(metavar="A.json B.json …", help="What bench run wrote.")]
_Model = Annotated[
    str | None, typer.Option("--model", "-m", help="A GGUF file; without it, the embedded model.")
]
_Threads = Annotated[int | None, typer.Option(help="Without it, the cores this process may use.")]
_Isa = Annotated[str | None, typer.Option(help="A kernel table; without it, the fastest.")]
_Workloads = Annotated[
    list[str] | None, typer.Option("--workload", help="Name or .jsonl file; else short, chats and documents.")
]
_Users = Annotated[list[int] | None, typer.Option(help="Several times for several; else 1 and 4.")]
_Rounds = Annotated[int, typer.Option(help="Of each build, in turns.")]
_Json = Annotated[bool, typer.Option("--json", help="One JSON object.")]
_Python = Annotated[str, typer.Option("--python", help="The new build: a Python that has binhdan.")]
_Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="A JSON file for all figures, beside the table.")
]
_GREEDY_ANSWERS = 12  # of each of two kinds


def compare(results: _Results) -> None:
    """Rank results of boards or versions, with intervals of 95 %."""
    from binhdan.bench.suite.compare import compare as compare_results
    from binhdan.bench.suite.result import load_result
    from binhdan.bench.suite.tables import ranking_table

    typer.echo(ranking_table(compare_results([load_result(path) for path in results])))


def report(
    result: Annotated[Path, typer.Argument(metavar="A.json", help="What bench run wrote.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="An HTML file; else beside the result.")
    ] = None,
) -> None:
    """Make one page of a result: charts and all figures, to be read, printed and published."""
    from binhdan.bench.suite.report.page import page
    from binhdan.bench.suite.result import load_result

    path = output or result.with_suffix(".html")
    write_whole(path, page(load_result(result)))
    typer.echo(f"{path}", err=True)


def history(
    result: Annotated[Path | None, typer.Argument(help="A result to append; without it, only shown.")] = None,
    file: Annotated[Path, typer.Option(help="One line of JSON for each run.")] = Path("bench-history.jsonl"),
    last: Annotated[int, typer.Option(help="Lines to show.")] = 20,
) -> None:
    """Append a result to a file of the repository, and show how its figures went."""
    from binhdan.bench.suite import history as entries
    from binhdan.bench.suite.result import load_result
    from binhdan.bench.suite.tables import history_table

    if result is not None:
        entries.append(file, entries.entry_of(load_result(result)))
    typer.echo(history_table(entries.read(file), last))


def aa(
    model: _Model = None,
    threads: _Threads = None,
    isa: _Isa = None,
    workloads: _Workloads = None,
    users: _Users = None,
    rounds: _Rounds = 20,
    as_json: _Json = False,
    output: _Output = None,
) -> None:
    """This build against itself, in turns: whether the machine is quiet enough to measure on."""
    from binhdan.bench.suite.pairs import verdict

    pairs = _measure(sys.executable, sys.executable, model, threads, isa, workloads, users, rounds)
    _show(pairs, as_json, output)
    if found := verdict(pairs):
        typer.echo("THE MACHINE IS DISTURBED", err=True)
        for finding in found:
            typer.echo(f"  - {finding.text}", err=True)
        raise typer.Exit(1)


def ab(
    a: Annotated[str, typer.Argument(help="A Python that has binhdan, llama-cpp-python, or a server's URL.")],
    b: Annotated[str, typer.Argument(help="The same; without it, this build.")] = sys.executable,
    model: _Model = None,
    threads: _Threads = None,
    isa: _Isa = None,
    workloads: _Workloads = None,
    users: _Users = None,
    rounds: _Rounds = 20,
    as_json: _Json = False,
    output: _Output = None,
) -> None:
    """Two engines or builds in turns: how many times as long B takes, and whether they answer alike."""
    pairs = _measure(a, b, model, threads, isa, workloads, users, rounds, _GREEDY_ANSWERS)
    _show(pairs, as_json, output)


def gate(
    old: Annotated[str, typer.Argument(help="The old build: a Python that has binhdan.")],
    python: _Python = sys.executable,
    model: _Model = None,
    threads: _Threads = None,
    isa: _Isa = None,
    workloads: _Workloads = None,
    users: _Users = None,
    rounds: _Rounds = 10,
    as_json: _Json = False,
    output: _Output = None,
) -> None:
    """As ab with two builds; fails when the best round of the new one is worse than the worst of the old."""
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
