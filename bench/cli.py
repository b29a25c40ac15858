"""`binhdan bench …`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import binhdan
from binhdan.bench.boards import cli as boards
from binhdan.bench.common.options import Isa, Json, JsonArray, Model, Threads
from binhdan.bench.common.output import progress, to_json
from binhdan.bench.load.cli import app as load
from binhdan.bench.plan.cli import plan
from binhdan.bench.suite import cli as suite
from binhdan.bench.suite import cli_results as results
from binhdan.runtime.errors import InvalidArgumentError
from binhdan.runtime.options import KvType

if TYPE_CHECKING:
    from binhdan.bench.micro.case import Case

app = typer.Typer(help="Measure this machine.", add_completion=False, rich_markup_mode=None)
app.add_typer(load, name="load")
app.command("run")(suite.run)
for command in (results.report, results.compare, results.history, results.aa, results.ab, results.gate):
    app.command()(command)
app.command()(plan)
app.command()(boards.predict)
app.command()(boards.board)


@app.callback(invoke_without_command=True)
def bench(context: typer.Context) -> None:
    """Measure this machine. Without a command: `run` with its defaults."""
    if context.invoked_subcommand is None:
        suite.run()


@app.command()
def speed(
    model: Model = None,
    threads: Threads = None,
    prompt: Annotated[int, typer.Option(help="Tokens of the prompt.")] = 512,
    decode: Annotated[int, typer.Option(help="Tokens of the answer.")] = 64,
    runs: Annotated[int, typer.Option(help="Counted answers, after one warm-up answer.")] = 3,
    as_json: Json = False,
) -> None:
    """Measure prompt and decode speed, and the share of the memory bandwidth that decode reaches."""
    from binhdan.bench.micro.speed import measure
    from binhdan.bench.micro.tables import speed_table

    with binhdan.load(model, threads=threads, prefix_cache=False) as loaded:
        result = measure(loaded, prompt=prompt, decode=decode, runs=runs)
    typer.echo(to_json(asdict(result)) if as_json else speed_table(result))


@app.command()
def peers(
    models: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", help="GGUF file; repeatable. Default: the embedded model."),
    ] = None,
    threads: Threads = None,
    prompt: Annotated[int, typer.Option(help="Tokens of the prompt; 0: no prompt.")] = 512,
    decode: Annotated[int, typer.Option(help="Decode steps; 0: no decode.")] = 128,
    depth: Annotated[int, typer.Option(help="Tokens before both; not timed.")] = 0,
    sequences: Annotated[int, typer.Option(help="Sequences that decode together.")] = 1,
    rounds: Annotated[int, typer.Option(help="Trials of each engine, in turns.")] = 5,
    isas: Annotated[
        list[str] | None, typer.Option("--isa", help="Kernel table of binhdan; repeatable.")
    ] = None,
    llama_cpp_python: Annotated[bool, typer.Option(help="Include llama-cpp-python if installed.")] = True,
    llama_bench: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LABEL=COMMAND",
            help="A llama-bench of llama.cpp or ik_llama.cpp, with options; repeatable.",
        ),
    ] = None,
    llama_batched_bench: Annotated[
        list[str] | None,
        typer.Option(metavar="LABEL=COMMAND", help="A llama-batched-bench, for several sequences."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON array with an object per model.")
    ] = False,
) -> None:
    """Compare this engine with llama.cpp and its forks: same file, threads and sizes, in turns."""
    from binhdan.bench.common.tables import machine_line
    from binhdan.bench.micro import engines, llama_cpp
    from binhdan.bench.micro.peers import compare
    from binhdan.bench.micro.tables import peers_table

    compared: list[engines.Engine] = [engines.Binhdan(isa) for isa in isas or [""]]
    compared += engines.programs(llama_bench or [], llama_batched_bench or [])
    if llama_cpp_python and llama_cpp.installed():
        compared.append(engines.LlamaCppPython())
    elif llama_cpp_python:
        typer.echo(f"llama-cpp-python is not installed: {llama_cpp.INSTALL}", err=True)
    comparisons = []
    for model in models or (None,):
        case = _case(model, threads, prompt, decode, depth, sequences)
        with progress(rounds * len(compared)) as step:
            comparisons.append(compare(compared, case, rounds, step))
    if as_json:
        typer.echo(to_json([asdict(one) for one in comparisons]))
    else:
        tables = (peers_table(one) for one in comparisons)
        typer.echo("\n\n".join([machine_line(comparisons[0].machine), *tables]))


@app.command()
def restore(
    data: Annotated[
        list[Path],
        typer.Argument(
            help='Lines of JSON: {"target"}, or {"text", "register" or "source"}.', show_default=False
        ),
    ],
    write: Annotated[
        Path | None, typer.Option(help="Write the table into this page, docs/vietnamese.md.")
    ] = None,
    peers: Annotated[bool, typer.Option(help="Include pyvi and underthesea if installed.")] = True,
    as_json: Json = False,
) -> None:
    """Measure how many words and sentences of texts are restored, beside other installed programs.

    Also how many errors that are put into the texts `binhdan spell` finds.
    """
    from binhdan.bench.suite import spelling
    from binhdan.bench.suite.restoration import (
        installed_peers,
        lines_of,
        measure,
        read_records,
        table,
        write_page,
    )

    records = read_records(data)
    sets = dict(sorted(lines_of(records).items()))
    misspelled = spelling.misspelled_pairs(records)
    for name in misspelled:  # their lines were made for spelling
        del sets[name]
    found = installed_peers() if peers else {}
    results = [measure(name, lines, found) for name, lines in sets.items()]
    if not results:
        raise InvalidArgumentError("expected at least 1 text, found none")
    spelled = [spelling.measure(name, lines) for name, lines in sets.items()]
    spelled += [spelling.measure_pairs(name, pairs) for name, pairs in sorted(misspelled.items())]
    if write is not None:
        write_page(write, results)
        spelling.write_page(write, spelled)
    if as_json:
        both = {"restore": [asdict(one) for one in results], "spell": [asdict(one) for one in spelled]}
        typer.echo(to_json(both))
    else:
        typer.echo(f"{table(results)}\n{spelling.table(spelled)}")


@app.command()
def embeddings(
    model: Model = None,
    threads: Threads = None,
    texts: Annotated[int, typer.Option(min=1, help="Number of texts, of one sentence each.")] = 1000,
    rounds: Annotated[int, typer.Option(help="Trials of each engine, in turns.")] = 5,
    isas: Annotated[
        list[str] | None, typer.Option("--isa", help="Kernel table of binhdan; repeatable.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare the embeddings of short texts with llama-cpp-python, if it is installed, in turns."""
    from binhdan.bench.micro import llama_cpp
    from binhdan.bench.micro.embedding_child import EmbeddingCase
    from binhdan.bench.suite.embeddings import compare, short_texts, table
    from binhdan.runtime.client.model import find_model
    from binhdan.runtime.ffi import library

    engines = [f"binhdan:{isa}" for isa in isas] if isas else ["binhdan"]
    if llama_cpp.installed():
        engines.append("llama-cpp-python")
    else:
        typer.echo(f"llama-cpp-python is not installed: {llama_cpp.INSTALL}", err=True)
    threads = library().usable_cores() if threads is None else threads
    case = EmbeddingCase(model=find_model(model), threads=threads, texts=short_texts(texts))
    with progress(rounds * len(engines)) as step:
        result = compare(engines, case, rounds, step)
    typer.echo(to_json(asdict(result)) if as_json else table(result))


@app.command()
def profile(
    model: Model = None,
    threads: Threads = None,
    prompt: Annotated[int, typer.Option(help="Tokens of the prompt; 0: no prompt.")] = 512,
    decode: Annotated[int, typer.Option(help="Decode steps; 0: no decode.")] = 64,
    depth: Annotated[int, typer.Option(help="Tokens before both.")] = 0,
    sequences: Annotated[int, typer.Option(help="Sequences that decode together.")] = 1,
    isa: Isa = None,
    kv_type: Annotated[KvType, typer.Option(help="Number format of keys and values.")] = "f16",
    as_json: Json = False,
) -> None:
    """Measure the time of each operation, and how close each is to the limits of the machine."""
    from binhdan.bench.micro.profile import profile
    from binhdan.bench.micro.tables import profile_table

    case = _case(model, threads, prompt, decode, depth, sequences)
    result = profile(case, isa, kv_type)
    typer.echo(to_json(asdict(result)) if as_json else profile_table(result))


@app.command()
def hot_paths(
    select: Annotated[str, typer.Option("-k", help='Only paths that match, such as "sampler".')] = "",
    seconds: Annotated[float, typer.Option(help="Seconds per path and round.")] = 0.2,
    rounds: Annotated[int, typer.Option(help="Rounds of each build, in turns.")] = 3,
    against: Annotated[
        str | None,
        typer.Option(help="Python interpreter with an older build; fail when this build is slower."),
    ] = None,
    as_json: JsonArray = False,
) -> None:
    """Measure the code that every request runs (tokenizer, sampler, kernels, HTTP), or compare two builds."""
    from binhdan.bench.micro.hot_paths import measure
    from binhdan.bench.micro.tables import hot_paths_table

    with progress(rounds * (2 if against else 1)) as step:
        paths = measure(select, seconds, rounds, against, step)
    typer.echo(to_json([asdict(path) for path in paths]) if as_json else hot_paths_table(paths))
    if slower := [path.name for path in paths if path.gate and path.slower]:
        typer.echo(f"SLOWER: {', '.join(slower)}", err=True)
        raise typer.Exit(1)


@app.command()
def kernels(
    select: Annotated[
        str, typer.Option("-k", help='Only kernels that match, such as "avx2 and Q4_0 and decode".')
    ] = "",
    seconds: Annotated[float, typer.Option(help="Seconds per kernel.")] = 0.2,
    check: Annotated[
        bool, typer.Option("--check", help="Compare every operation with the scalar table; then measure.")
    ] = False,
    isas: Annotated[list[str] | None, typer.Option("--isa", help="Table to check; repeatable.")] = None,
    as_json: JsonArray = False,
) -> None:
    """Measure the matrix kernels by table, weight type and shape, on one thread (needs 'binhdan[bench]')."""
    if check:
        _check_kernels(isas, as_json)
        return
    from binhdan.bench.micro.kernels import measure
    from binhdan.bench.micro.tables import kernels_table

    figures = measure(select, seconds)
    typer.echo(to_json([asdict(figure) for figure in figures]) if as_json else kernels_table(figures))


def _check_kernels(isas: list[str] | None, as_json: bool) -> None:
    from binhdan.bench.micro import conformance

    outcomes = conformance.check(isas)
    if as_json:
        typer.echo(to_json([asdict(outcome) for outcome in outcomes]))
    else:
        typer.echo(conformance.table(outcomes))
    if failed := [f"{one.isa} {one.operation}" for one in outcomes if one.failures]:
        typer.echo(f"FAILED: {', '.join(failed)}", err=True)
        raise typer.Exit(1)
    if not as_json:
        tables = sorted({outcome.isa for outcome in outcomes})
        typer.echo("\n" + conformance.speeds_table(conformance.speeds(tables)))


def _case(
    model: str | None, threads: int | None, prompt: int, decode: int, depth: int, sequences: int
) -> Case:
    from binhdan.bench.micro.case import Case
    from binhdan.runtime.client.model import find_model
    from binhdan.runtime.ffi import library

    return Case(
        model=find_model(model),
        threads=library().usable_cores() if threads is None else threads,
        prompt=prompt,
        decode=decode,
        depth=depth,
        sequences=sequences,
    )
