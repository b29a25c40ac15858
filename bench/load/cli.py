"""`binhdan bench load …`."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from binhdan.bench.common.options import Json, JsonArray, Model, ServerKey, Threads
from binhdan.bench.common.output import progress, to_json

if TYPE_CHECKING:
    from binhdan.bench.common.arrivals import Arrivals
    from binhdan.bench.load.prompts import Sizes

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Measures servers under load: binhdan, and others for comparison.",
)

_Options = Annotated[str, typer.Option(help="Additional options of binhdan serve, in one text.")]
_System = Annotated[int, typer.Option(help="Tokens in the system prompt, which all chats share; 0: none.")]
_Question = Annotated[int, typer.Option(help="Tokens in a question.")]
_Answer = Annotated[int, typer.Option(help="Tokens in an answer.")]
_Users = Annotated[
    list[int] | None,
    typer.Option(help="Concurrent users of a closed loop; repeat it for several loads."),
]
_Each = Annotated[int, typer.Option(help="Requests per user of a closed loop.")]
_Rates = Annotated[
    list[float] | None,
    typer.Option(
        "--rate", help="Requests per second of an open loop, at random times; repeat it for several loads."
    ),
]
_Total = Annotated[int, typer.Option(help="Requests of an open loop.")]
_Seed = Annotated[int, typer.Option(help="Seed of the random words and times.")]


@app.command("run")
def load(
    url: Annotated[str, typer.Argument(help="A server with OpenAI's API, such as http://127.0.0.1:8080.")],
    users: _Users = None,
    requests: _Each = 4,
    rates: _Rates = None,
    total: _Total = 64,
    system: _System = 800,
    question: _Question = 64,
    answer: _Answer = 128,
    seed: _Seed = 0,
    api_key: ServerKey = None,
    as_json: JsonArray = False,
) -> None:
    """Send Vietnamese chats to a running server; print its speed and tail latencies."""
    from binhdan.bench.load.chat_client import ChatClient
    from binhdan.bench.load.event_loop import run_loop
    from binhdan.bench.load.generator import Load, run_load
    from binhdan.bench.load.prompts import calibrate
    from binhdan.bench.load.tables import load_table

    arrivals, sizes = _arrivals(users, requests, rates, total, seed), _sizes(system, question, answer)

    async def measure() -> list[Load]:
        async with ChatClient(url, api_key=api_key) as client:
            chats = await calibrate(client, sizes, seed=seed)
            with _bar(sum(one.total for one in arrivals)) as step:
                return [await run_load(client, chats, one, progress=step) for one in arrivals]

    loads = run_loop(measure())
    typer.echo(to_json([asdict(one) for one in loads]) if as_json else "\n\n".join(map(load_table, loads)))


@app.command()
def compare(
    model: Model = None,
    threads: Threads = None,
    llama_servers: Annotated[
        list[str] | None,
        typer.Option(
            "--llama-server",
            metavar="COMMAND",
            help="llama-server of llama.cpp, with options; may be repeated.",
        ),
    ] = None,
    urls: Annotated[
        list[str] | None,
        typer.Option("--url", metavar="LABEL=URL", help="A running server; may be repeated."),
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
    api_key: ServerKey = None,
    as_json: Json = False,
) -> None:
    """Compare binhdan's server with others: same file, chats and threads, in turns, one server at a time."""
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
    arrivals = _arrivals(users, requests, rates, total, seed)
    with progress(rounds * len(compared)) as step:
        result = compare(
            compared,
            arrivals,
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
    model: Model = None,
    threads: Threads = None,
    batches: Annotated[
        list[int] | None, typer.Option("--batch", help="Concurrent answers; repeat it for several batches.")
    ] = None,
    answer: _Answer = 256,
    rounds: Annotated[int, typer.Option(help="Runs in process and through the server, in turns.")] = 5,
    options: _Options = "",
    as_json: Json = False,
) -> None:
    """Measure the overhead of HTTP and Python: decoding in process and through the server."""
    from binhdan.bench.load.server_overhead import measure
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
    model: Model = None,
    threads: Threads = None,
    tokens: Annotated[int, typer.Option(help="Tokens in the prefix.")] = 1000,
    runs: Annotated[int, typer.Option(help="Number of prefixes.")] = 5,
    kill: Annotated[bool, typer.Option("--kill", help="End the first server by SIGKILL.")] = False,
    options: _Options = "",
    as_json: Json = False,
) -> None:
    """Measure TTFT with a cached prefix, and after a restart with a prefix cache folder."""
    from binhdan.bench.load.prefix_reuse import measure
    from binhdan.bench.load.tables import prefix_reuse_table
    from binhdan.runtime.client.model import find_model

    path, more = find_model(model), shlex.split(options)
    with progress(2 * runs) as step:
        result = measure(
            path, threads=threads, tokens=tokens, runs=runs, kill=kill, options=more, progress=step
        )
    typer.echo(to_json(asdict(result)) if as_json else prefix_reuse_table(result))


@app.command()
def soak(
    model: Model = None,
    threads: Threads = None,
    requests: Annotated[
        int, typer.Option(help="Number of requests; a third of them are cancelled or broken.")
    ] = 10_000,
    clients: Annotated[int, typer.Option(help="Concurrent clients.")] = 64,
    deterministic: Annotated[
        bool, typer.Option(help="Serve deterministically; each answer must equal the answer alone.")
    ] = True,
    seed: _Seed = 0,
    options: _Options = "",
    as_json: Json = False,
) -> None:
    """Send many short requests, valid and broken. Fails if an answer is lost, stuck or, in deterministic
    mode, different."""
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


def _arrivals(
    users: list[int] | None, requests: int, rates: list[float] | None, total: int, seed: int
) -> list[Arrivals]:
    """A load of 16 users when neither users nor rates are given."""
    from binhdan.bench.common.arrivals import Closed, Open

    users = users or ([] if rates else [16])
    closed: list[Arrivals] = [Closed(users=count, requests=requests) for count in users]
    return closed + [Open(rate=rate, requests=total, seed=seed) for rate in rates or ()]


def _sizes(system: int, question: int, answer: int) -> Sizes:
    from binhdan.bench.load.prompts import Sizes

    return Sizes(system=system, question=question, answer=answer)


@contextmanager
def _bar(total: int) -> Iterator[Callable[[], None]]:
    """A progress bar of requests. It is redrawn at most 100 times: it runs on the cores that are measured."""
    with progress(100) as step:
        done = 0

        def advance() -> None:
            nonlocal done
            before, done = done, done + 1
            for _ in range(100 * done // total - 100 * before // total):
                step(0, "requests")

        yield advance
