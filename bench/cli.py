"""`binhdan bench …`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

import binhdan
from binhdan.bench.common.output import progress, to_json
from binhdan.bench.load.cli import app as serving
from binhdan.bench.plan.cli import plan
from binhdan.bench.suite import cli as suite
from binhdan.bench.suite import cli_results as results
from binhdan.runtime.options import KvType

if TYPE_CHECKING:
    from binhdan.bench.micro.case import Workload

app = typer.Typer(help="Measure this machine.", add_completion=False, rich_markup_mode=None)
app.add_typer(serving, name="serve")
app.command("run")(suite.run)
for command in (results.report, results.compare, results.history, results.aa, results.ab, results.gate):
    app.command()(command)
app.command()(plan)


@app.callback(invoke_without_command=True)
def bench(context: typer.Context) -> None:
    """Measure this machine. Without a command: `run`, with all its defaults."""
    if context.invoked_subcommand is None:
        suite.run()


@app.command()
def speed(
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="A GGUF file; without it, the embedded model.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Without it, the cores this process may use.")] = None,
    prompt: Annotated[int, typer.Option(help="Tokens of the prompt.")] = 512,
    decode: Annotated[int, typer.Option(help="Tokens of the answer.")] = 64,
    runs: Annotated[int, typer.Option(help="Answers that count; one more comes before them.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Prompt and decode speed, and the share of the memory bandwidth that decoding reaches."""
    from binhdan.bench.micro.speed import measure
    from binhdan.bench.micro.tables import speed_table

    with binhdan.load(model, threads=threads, prefix_cache=False) as loaded:
        result = measure(loaded, prompt=prompt, decode=decode, runs=runs)
    typer.echo(to_json(asdict(result)) if as_json else speed_table(result))


@app.command()
def peers(
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model", "-m", help="A GGUF file, several times for several; else the embedded model."
        ),
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Without it, the cores this process may use.")] = None,
    prompt: Annotated[int, typer.Option(help="Tokens of the prompt; 0 leaves it out.")] = 512,
    decode: Annotated[int, typer.Option(help="Tokens to decode; 0 leaves it out.")] = 128,
    depth: Annotated[int, typer.Option(help="Tokens that stand before both, not timed.")] = 0,
    sequences: Annotated[int, typer.Option(help="Sequences that decode together.")] = 1,
    rounds: Annotated[int, typer.Option(help="Runs of each engine, in turns.")] = 5,
    isas: Annotated[
        list[str] | None, typer.Option("--isa", help="A kernel table of ours, several times for several.")
    ] = None,
    llama_cpp_python: Annotated[bool, typer.Option(help="Compare with it where it is installed.")] = True,
    llama_bench: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LABEL=COMMAND", help="A llama-bench of llama.cpp or ik_llama.cpp, and options."
        ),
    ] = None,
    llama_batched_bench: Annotated[
        list[str] | None, typer.Option(metavar="LABEL=COMMAND", help="The same for several sequences.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON array, an object for each model.")
    ] = False,
) -> None:
    """This engine beside llama.cpp and its relatives: same file, threads and sizes, in turns."""
    from binhdan.bench.micro import engines
    from binhdan.bench.micro.peers import compare
    from binhdan.bench.micro.tables import machine_line, peers_table

    compared: list[engines.Engine] = [engines.Binhdan(isa) for isa in isas or [""]]
    compared += engines.programs(llama_bench or [], llama_batched_bench or [])
    missing = llama_cpp_python and not engines.LlamaCppPython.installed()
    if llama_cpp_python and not missing:
        compared.append(engines.LlamaCppPython())
    if missing:
        typer.echo(f"llama-cpp-python is not installed: {engines.INSTALL_LLAMA_CPP_PYTHON}", err=True)
    comparisons = []
    for model in models or (None,):
        workload = _workload(model, threads, prompt, decode, depth, sequences)
        with progress(rounds * len(compared)) as step:
            comparisons.append(compare(compared, workload, rounds, step))
    if as_json:
        typer.echo(to_json([asdict(one) for one in comparisons]))
    else:
        tables = (peers_table(one) for one in comparisons)
        typer.echo("\n\n".join([machine_line(comparisons[0].machine), *tables]))


@app.command()
def profile(
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="A GGUF file; without it, the embedded model.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Without it, the cores this process may use.")] = None,
    prompt: Annotated[int, typer.Option(help="Tokens of the prompt; 0 leaves it out.")] = 512,
    decode: Annotated[int, typer.Option(help="Steps of decoding; 0 leaves them out.")] = 64,
    depth: Annotated[int, typer.Option(help="Tokens that stand before both.")] = 0,
    sequences: Annotated[int, typer.Option(help="Sequences that decode together.")] = 1,
    isa: Annotated[str | None, typer.Option(help="A kernel table; without it, the fastest.")] = None,
    kv_type: Annotated[KvType, typer.Option(help="How keys and values are kept.")] = "f16",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Where the time goes, operation by operation, and how far each is from the machine's limits."""
    from binhdan.bench.micro.profile import profile
    from binhdan.bench.micro.tables import profile_table

    workload = _workload(model, threads, prompt, decode, depth, sequences)
    result = profile(workload, isa, kv_type)
    typer.echo(to_json(asdict(result)) if as_json else profile_table(result))


@app.command()
def hot_paths(
    select: Annotated[str, typer.Option("-k", help='Only those whose names fit, such as "sampler".')] = "",
    seconds: Annotated[float, typer.Option(help="Of each path in a round.")] = 0.2,
    rounds: Annotated[int, typer.Option(help="Of each build, in turns.")] = 3,
    against: Annotated[
        str | None, typer.Option(help="A Python that has an older build; fails when this one is slower.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array.")] = False,
) -> None:
    """Tokenizer, sampler, kernels, HTTP: what every answer goes through, alone or against an older build."""
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
        str, typer.Option("-k", help='Only those whose names fit, such as "avx2 and Q4_0 and decode".')
    ] = "",
    seconds: Annotated[float, typer.Option(help="Of each kernel.")] = 0.2,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array.")] = False,
) -> None:
    """The matrix kernels alone, on one thread, by table, weight type and shape (needs 'binhdan[bench]')."""
    from binhdan.bench.micro.kernels import measure
    from binhdan.bench.micro.tables import kernels_table

    figures = measure(select, seconds)
    typer.echo(to_json([asdict(figure) for figure in figures]) if as_json else kernels_table(figures))


def _workload(
    model: str | None, threads: int | None, prompt: int, decode: int, depth: int, sequences: int
) -> Workload:
    from binhdan.bench.micro.case import Workload
    from binhdan.runtime.client.model import find_model
    from binhdan.runtime.ffi import library

    return Workload(
        model=find_model(model),
        threads=library().usable_cores() if threads is None else threads,
        prompt=prompt,
        decode=decode,
        depth=depth,
        sequences=sequences,
    )
