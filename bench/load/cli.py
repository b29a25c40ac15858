"""`binhdan bench serve …`."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from binhdan.bench.common.output import progress, to_json

if TYPE_CHECKING:
    from binhdan.bench.load.generator import Plan
    from binhdan.bench.load.texts import Sizes

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Servers under load: ours, and others beside it."
)

_Model = Annotated[
    str | None, typer.Option("--model", "-m", help="A GGUF file; without it, the embedded model.")
]
_Threads = Annotated[int | None, typer.Option(help="Without it, the cores this process may use.")]
_Options = Annotated[str, typer.Option(help="More options of binhdan serve, in one text.")]
_Json = Annotated[bool, typer.Option("--json", help="One JSON object.")]
_System = Annotated[int, typer.Option(help="Tokens of the system prompt, the same for all; 0: none.")]
_Question = Annotated[int, typer.Option(help="Tokens of a question.")]
_Answer = Annotated[int, typer.Option(help="Tokens of an answer.")]
_Users = Annotated[
    list[int] | None,
    typer.Option(help="That ask one question after the other; several times for several loads."),
]
_Each = Annotated[int, typer.Option(help="Requests of each user.")]
_Rates = Annotated[
    list[float] | None,
    typer.Option("--rate", help="Requests a second, at random times; several times for several loads."),
]
_Total = Annotated[int, typer.Option(help="Requests of a load with a rate.")]
_Seed = Annotated[int, typer.Option(help="Of the words and the random times.")]
_Key = Annotated[str | None, typer.Option(envvar="BINHDAN_BENCH_API_KEY", help="Of a server that wants one.")]


@app.command()
def load(
    url: Annotated[str, typer.Argument(help="Of a server with OpenAI's API, such as http://127.0.0.1:8080.")],
    users: _Users = None,
    requests: _Each = 4,
    rates: _Rates = None,
    total: _Total = 64,
    system: _System = 800,
    question: _Question = 64,
    answer: _Answer = 128,
    seed: _Seed = 0,
    api_key: _Key = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array.")] = False,
) -> None:
    """Vietnamese chats with a server that runs: speed and tails."""
    from binhdan.bench.load.client import ChatClient
    from binhdan.bench.load.generator import Load, run
    from binhdan.bench.load.loop import run as run_loop
    from binhdan.bench.load.tables import load_table
    from binhdan.bench.load.texts import calibrate

    plans, sizes = _plans(users, requests, rates, total, seed), _sizes(system, question, answer)

    async def measure() -> list[Load]:
        async with ChatClient(url, api_key=api_key) as client:
            chats = await calibrate(client, sizes, seed=seed)
            with _bar(sum(plan.total for plan in plans)) as step:
                return [await run(client, chats, plan, progress=step) for plan in plans]

    loads = run_loop(measure())
    typer.echo(to_json([asdict(one) for one in loads]) if as_json else "\n\n".join(map(load_table, loads)))


@app.command()
def compare(
    model: _Model = None,
    threads: _Threads = None,
    llama_servers: Annotated[
        list[str] | None,
        typer.Option("--llama-server", metavar="COMMAND", help="llama.cpp's server, and options of it."),
    ] = None,
    urls: Annotated[
        list[str] | None, typer.Option("--url", metavar="LABEL=URL", help="A server that runs elsewhere.")
    ] = None,
    users: _Users = None,
    requests: _Each = 4,
    rates: _Rates = None,
    total: _Total = 64,
    rounds: Annotated[int, typer.Option(help="Runs of each server, in turns.")] = 3,
    system: _System = 800,
    question: _Question = 64,
    answer: _Answer = 128,
    seed: _Seed = 0,
    options: _Options = "",
    api_key: _Key = None,
    as_json: _Json = False,
) -> None:
    """Our server beside others: same file, chats and threads, in turns, one server up at a time."""
    from binhdan.bench.load import servers
    from binhdan.bench.load.compare import compare
    from binhdan.bench.load.tables import comparison_table
    from binhdan.runtime.client.model import find_model
    from binhdan.runtime.ffi import library

    path = find_model(model)
    threads = library().usable_cores() if threads is None else threads
    own = servers.binhdan_server(path, threads=threads, options=shlex.split(options))
    compared: list[servers.Server] = [own]
    for number, command in enumerate(llama_servers or [], 1):
        name = "llama-server" if number == 1 else f"llama-server {number}"
        compared.append(servers.llama_server(command, path, threads=threads, name=name))
    compared += servers.remote_servers(urls or [])
    plans = _plans(users, requests, rates, total, seed)
    with progress(rounds * len(compared)) as step:
        result = compare(
            compared,
            plans,
            _sizes(system, question, answer),
            rounds,
            model=path.name,
            seed=seed,
            api_key=api_key,
            progress=step,
        )
    typer.echo(to_json(asdict(result)) if as_json else comparison_table(result))


@app.command()
def overhead(
    model: _Model = None,
    threads: _Threads = None,
    batches: Annotated[
        list[int] | None, typer.Option("--batch", help="Answers together, several times for several.")
    ] = None,
    answer: _Answer = 256,
    rounds: Annotated[int, typer.Option(help="Runs in process and through the server, in turns.")] = 5,
    options: _Options = "",
    as_json: _Json = False,
) -> None:
    """What HTTP and Python cost: decoding in process and through the server."""
    from binhdan.bench.load.overhead import measure
    from binhdan.bench.load.tables import overhead_table
    from binhdan.runtime.client.model import find_model

    with progress(2 * rounds) as step:
        result = measure(
            find_model(model),
            threads=threads,
            batches=batches or [1, 16],
            answer_tokens=answer,
            rounds=rounds,
            options=shlex.split(options),
            progress=step,
        )
    typer.echo(to_json(asdict(result)) if as_json else overhead_table(result))


@app.command()
def prefix(
    model: _Model = None,
    threads: _Threads = None,
    tokens: Annotated[int, typer.Option(help="Of the prefix.")] = 1000,
    runs: Annotated[int, typer.Option(help="Prefixes.")] = 5,
    kill: Annotated[bool, typer.Option("--kill", help="End the first server by SIGKILL.")] = False,
    options: _Options = "",
    as_json: _Json = False,
) -> None:
    """How soon an answer begins after a known prefix, and after a restart with a folder of prefixes."""
    from binhdan.bench.load.prefix import measure
    from binhdan.bench.load.tables import prefix_table
    from binhdan.runtime.client.model import find_model

    path, more = find_model(model), shlex.split(options)
    with progress(2 * runs) as step:
        result = measure(
            path, threads=threads, tokens=tokens, runs=runs, kill=kill, options=more, progress=step
        )
    typer.echo(to_json(asdict(result)) if as_json else prefix_table(result))


@app.command()
def soak(
    model: _Model = None,
    threads: _Threads = None,
    requests: Annotated[int, typer.Option(help="A third of them are cancelled or broken.")] = 10_000,
    clients: Annotated[int, typer.Option(help="That send them.")] = 64,
    deterministic: Annotated[
        bool, typer.Option(help="Whether each answer must be the one got alone.")
    ] = True,
    seed: _Seed = 0,
    options: _Options = "",
    as_json: _Json = False,
) -> None:
    """Many short requests, good and bad: none may be lost, stuck or, in deterministic mode, different."""
    from binhdan.bench.load.soak import soak
    from binhdan.bench.load.tables import soak_table
    from binhdan.runtime.client.model import find_model

    path, more = find_model(model), shlex.split(options)
    with _bar(requests) as step:
        result = soak(
            path,
            threads=threads,
            requests=requests,
            clients=clients,
            deterministic=deterministic,
            seed=seed,
            options=more,
            progress=step,
        )
    typer.echo(to_json(asdict(result)) if as_json else soak_table(result))
    if result.problems:
        raise typer.Exit(1)


def _plans(
    users: list[int] | None, requests: int, rates: list[float] | None, total: int, seed: int
) -> list[Plan]:
    """16 users where nothing else is asked for."""
    from binhdan.bench.load.generator import Closed, Open

    plans: list[Plan] = [Closed(users=count, requests=requests) for count in users or ([] if rates else [16])]
    return plans + [Open(rate=rate, requests=total, seed=seed) for rate in rates or ()]


def _sizes(system: int, question: int, answer: int) -> Sizes:
    from binhdan.bench.load.texts import Sizes

    return Sizes(system=system, question=question, answer=answer)


@contextmanager
def _bar(total: int) -> Iterator[Callable[[], None]]:
    """A bar of requests; drawn seldom, since it runs on the cores that are measured."""
    with progress(100) as step:
        done = 0

        def advance() -> None:
            nonlocal done
            before, done = done, done + 1
            for _ in range(100 * done // total - 100 * before // total):
                step(0, "requests")

        yield advance
