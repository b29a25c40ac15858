"""`binhdan serve`: an OpenAI-compatible HTTP server."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import uvicorn
from starlette.types import ASGIApp

from binhdan.runtime.cli import console
from binhdan.runtime.client.model import find_model
from binhdan.runtime.errors import BinhdanError, FileReadError
from binhdan.runtime.server.accounting import logs
from binhdan.runtime.server.config import ServerConfig, load
from binhdan.runtime.server.http.connection import ConnectionLimits, limited
from binhdan.runtime.server.models.pool import ModelPool

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def serve(
    model: Annotated[
        str | None, typer.Argument(help="GGUF file, or org/name that was pulled. [default: embedded]")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="TOML file: port = 8080 for --port, and rarer settings."),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model", "-m", metavar="[NAME=]FILE", help="Another model; 'embedded' is a file, too."
        ),
    ] = None,
    default_model: Annotated[
        str | None, typer.Option(metavar="NAME", help="For requests that name none. [default: the first]")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="0 takes any that is free. [default: 8080]")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads. [default: the usable cores]")] = None,
    context: Annotated[
        int | None, typer.Option(help="Most tokens of prompt and answer. [default: the model's]")
    ] = None,
    max_sequences: Annotated[
        int | None, typer.Option(help="Answers that are made at the same time. [default: 16]")
    ] = None,
    max_waiting: Annotated[int | None, typer.Option(help="That may wait besides. [default: 256]")] = None,
    max_kv_bytes: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="A model's most for keys and values, such as 2GiB."),
    ] = None,
    kv_type: Annotated[
        str | None, typer.Option(help="Of keys and values: f16, or q8_0 in half the memory. [default: f16]")
    ] = None,
    prefix_cache_dir: Annotated[
        Path | None, typer.Option(help="Keep known beginnings of prompts here over a restart. [default: not]")
    ] = None,
    max_prefix_cache_dir_bytes: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Most bytes there. [default: 4GiB]")
    ] = None,
    deterministic: Annotated[
        bool | None,
        typer.Option("--deterministic", help="Answers do not depend on what runs beside them; slower."),
    ] = None,
    model_memory_bytes: Annotated[
        str | None,
        typer.Option("--model-memory", metavar="SIZE", help="Of all loaded models. [default: no limit]"),
    ] = None,
    idle_unload: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Unload what nobody used for so long.")
    ] = None,
    api_key: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME] KEY",
            help="Lists of processes show it: the next or BINHDAN_API_KEY is better.",
        ),
    ] = None,
    api_key_file: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Lines NAME KEY [tokens_per_minute=N] [concurrent=N], or TOML with tables [NAME].",
        ),
    ] = None,
    tokens_per_minute: Annotated[
        int | None, typer.Option(help="Of each key, prompts and answers. [default: no limit]")
    ] = None,
    concurrent: Annotated[
        int | None, typer.Option(help="Requests at a time of each key. [default: no limit]")
    ] = None,
    prompt_tokens: Annotated[
        int | None, typer.Option(help="Most of a prompt. [default: the context]")
    ] = None,
    answer_tokens: Annotated[
        int | None, typer.Option(help="Most of an answer. [default: the context]")
    ] = None,
    max_choices: Annotated[
        int | None, typer.Option(help="Most answers to a prompt, n. [default: 16]")
    ] = None,
    body_bytes: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Most of a request. [default: 4MiB]")
    ] = None,
    max_connections: Annotated[int | None, typer.Option(help="At a time. [default: 512]")] = None,
    allowed_hosts: Annotated[
        list[str] | None,
        typer.Option("--allowed-host", metavar="NAME", help="In Host headers; *.example.vn, * for any."),
    ] = None,
    cors_origins: Annotated[
        list[str] | None,
        typer.Option("--cors-origin", metavar="ORIGIN", help="Whose pages may call. [default: none]"),
    ] = None,
    metrics_open: Annotated[
        bool | None, typer.Option("--open-metrics", help="Show /metrics without a key.")
    ] = None,
    ledger: Annotated[Path | None, typer.Option(help="SQLite file of the bill. [default: in memory]")] = None,
    tariff: Annotated[
        str | None, typer.Option(help="Đồng per kWh, or a tariff's name or file. [default: evn-household]")
    ] = None,
    board: Annotated[
        str | None, typer.Option(help="A board's name or TOML file, for its price and watts.")
    ] = None,
    watts: Annotated[
        float | None, typer.Option(help="What it takes at work, where no meter says. [default: the board's]")
    ] = None,
    page: Annotated[bool | None, typer.Option(help="The chat page at /. [default: yes]")] = None,
    log_level: Annotated[
        str | None, typer.Option(help="debug, info, warning or error. [default: info]")
    ] = None,
    drain_seconds: Annotated[
        float | None, typer.Option(help="What running requests have on SIGTERM. [default: 30]")
    ] = None,
) -> None:
    """Answer OpenAI's API over HTTP: chat, completions, responses, embeddings.

    Settings come from --config, over it from the environment (BINHDAN_PORT for --port), over it from here. On
    an address that others can reach an API key is needed. Logs are JSON on standard error; SIGTERM lets
    running requests end.
    """
    given = {name: value for name, value in locals().items() if value not in (None, [])}
    file, first = given.pop("config", None), given.pop("model", None)
    if first is not None:
        given["models"] = [first, *given.get("models", ())]
    run(load(file, os.environ, given))


def run(config: ServerConfig) -> None:
    """Serves until SIGTERM or Ctrl-C. Raises BinhdanError when it cannot begin."""
    from binhdan.runtime.server.app import create_app

    for source in config.models.values():
        find_model(source)
    logs.configure(config.log_level)
    listeners = _listen(config.host, config.port)
    app = create_app(config)
    pool: ModelPool = app.state.server.pool
    # uvicorn takes the signal while it runs, and sends it once more when all is done.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    _Server(uvicorn_config(app, config), pool).run(listeners)
    if pool.failed is not None:
        raise BinhdanError(f"the server ended: {pool.failed.__cause__ or pool.failed}")


def uvicorn_config(application: ASGIApp, config: ServerConfig) -> uvicorn.Config:
    """How uvicorn runs an application with the connection's part of the limits."""
    limits = ConnectionLimits(
        max_connections=config.max_connections,
        header_bytes=config.header_bytes,
        body_bytes=config.body_bytes,
        header_seconds=config.header_seconds,
        write_seconds=config.write_seconds,
    )
    seconds: dict[str, Any] = {  # uvicorn says int and takes any number
        "timeout_keep_alive": config.keep_alive_seconds,
        "timeout_graceful_shutdown": config.drain_seconds,
    }
    return uvicorn.Config(
        application,
        http=limited(limits),
        ws="none",
        loop="auto",  # uvloop where it is installed
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        workers=1,
        **seconds,
    )


class _Server(uvicorn.Server):
    """Ends when the first model cannot be loaded; takes no new requests once it is told to end."""

    def __init__(self, config: uvicorn.Config, pool: ModelPool) -> None:
        super().__init__(config)
        self._pool = pool

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or self._pool.failed is not None

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._pool.draining = True
        await super().shutdown(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or ():
            host, port = listener.getsockname()[:2]
            url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
            logs.log.info("listening", extra={"url": url})
            console.note(f"binhdan: {url}  (Ctrl-C ends it)")


def _listen(host: str, port: int) -> list[socket.socket]:
    """Bound, so that an address that is taken is known before a model is loaded. A name may have several."""
    listeners: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in dict.fromkeys(found):
            bound = socket.socket(family, socket.SOCK_STREAM)
            listeners.append(bound)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:  # "::" alone stands for IPv4, too
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host != "::")
            chosen = listeners[0].getsockname()[1] if len(listeners) > 1 else port
            bound.bind((address[0], chosen, *address[2:]))
    except OSError as error:
        for bound in listeners:
            bound.close()
        raise FileReadError(f"cannot listen on {host}, port {port}: {error.strerror}") from None
    return listeners
