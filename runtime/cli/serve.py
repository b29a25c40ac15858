"""`binhdan serve`: an OpenAI-compatible HTTP server."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
import uvicorn
from starlette.types import ASGIApp

from binhdan.runtime.cli.listening import END_SECONDS, Server, listen, remove_sockets
from binhdan.runtime.errors import BinhdanError
from binhdan.runtime.server.accounting import logs
from binhdan.runtime.server.config import ServerConfig, load
from binhdan.runtime.server.http.connection import ConnectionLimits, limited
from binhdan.runtime.server.models.pool import ModelPool, check_models

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def serve(
    model: Annotated[
        str | None, typer.Argument(help="GGUF file, or org/name after binhdan pull. [default: embedded]")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="TOML file: port = 8080 for --port, and all other settings."),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", metavar="[NAME=]FILE", help="Another model; FILE may be 'embedded'."),
    ] = None,
    default_model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Model of requests without a name. [default: the first]"),
    ] = None,
    adapters: Annotated[
        list[str] | None,
        typer.Option(
            "--adapter",
            metavar="[MODEL:]NAME=FILE",
            help="LoRA adapter of a model; its name in requests is MODEL:NAME.",
        ),
    ] = None,
    host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDRESS", help="Address to listen on, or unix:PATH; may repeat. [default: 127.0.0.1]"
        ),
    ] = None,
    port: Annotated[int | None, typer.Option(help="0 chooses a free port. [default: 8080]")] = None,
    tls_cert: Annotated[
        Path | None, typer.Option(metavar="FILE", help="PEM certificate: serve HTTPS. [default: none]")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="PEM key of --tls-cert.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads. [default: the usable cores]")] = None,
    context: Annotated[
        int | None, typer.Option(help="Max tokens of prompt and answer. [default: the model's]")
    ] = None,
    max_sequences: Annotated[
        int | None, typer.Option(help="Max requests in one batch. [default: 16]")
    ] = None,
    max_waiting: Annotated[
        int | None, typer.Option(help="Max further requests that wait. [default: 256]")
    ] = None,
    max_kv_bytes: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Max memory of a model's keys and values, such as 2GiB."),
    ] = None,
    kv_type: Annotated[
        str | None,
        typer.Option(help="Type of keys and values: f16, or q8_0 in half the memory. [default: f16]"),
    ] = None,
    draft: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="A smaller model with the same tokens: guesses tokens of answers."),
    ] = None,
    prefix_cache_dir: Annotated[
        Path | None, typer.Option(help="Folder that keeps the prefix cache over a restart. [default: none]")
    ] = None,
    max_prefix_cache_dir_bytes: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Max size of that folder. [default: 4GiB]")
    ] = None,
    deterministic: Annotated[
        bool | None,
        typer.Option("--deterministic", help="Other requests do not change an answer; slower."),
    ] = None,
    max_model_memory_bytes: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Max memory of all loaded models. [default: no limit]"),
    ] = None,
    idle_unload: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Unload a model after this time without requests.")
    ] = None,
    api_key: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME] KEY",
            help="The process list shows it; prefer --api-key-file or BINHDAN_API_KEY.",
        ),
    ] = None,
    api_key_file: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Lines NAME KEY [tokens_per_minute=N] [max_concurrent=N], or TOML with tables [NAME].",
        ),
    ] = None,
    tokens_per_minute: Annotated[
        int | None, typer.Option(help="Max tokens of prompts and answers per key. [default: no limit]")
    ] = None,
    max_concurrent: Annotated[
        int | None, typer.Option(help="Max running requests per key. [default: no limit]")
    ] = None,
    max_prompt_tokens: Annotated[
        int | None, typer.Option(help="Max tokens of a prompt. [default: the context]")
    ] = None,
    max_answer_tokens: Annotated[
        int | None, typer.Option(help="Max tokens of an answer. [default: the context]")
    ] = None,
    max_choices: Annotated[
        int | None, typer.Option(help="Max answers to one prompt, n. [default: 16]")
    ] = None,
    max_body_bytes: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Max size of a request body. [default: 4MiB]")
    ] = None,
    max_connections: Annotated[int | None, typer.Option(help="Max open connections. [default: 512]")] = None,
    allowed_hosts: Annotated[
        list[str] | None,
        typer.Option(
            "--allowed-host", metavar="NAME", help="Allowed Host header, such as *.example.vn; * allows all."
        ),
    ] = None,
    cors_origins: Annotated[
        list[str] | None,
        typer.Option(
            "--cors-origin", metavar="ORIGIN", help="Origin whose pages may send requests. [default: none]"
        ),
    ] = None,
    metrics_open: Annotated[
        bool | None, typer.Option("--open-metrics", help="Serve /metrics without a key.")
    ] = None,
    ledger: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|URL",
            help="SQLite file, or postgresql://… for many servers. [default: in memory]",
        ),
    ] = None,
    tariff: Annotated[
        str | None, typer.Option(help="Đồng per kWh, or name or file of a tariff. [default: evn-household]")
    ] = None,
    board: Annotated[
        str | None, typer.Option(help="Name or TOML file of the board, for its price and watts.")
    ] = None,
    watts: Annotated[
        float | None, typer.Option(help="Power under load without a meter. [default: the board's]")
    ] = None,
    page: Annotated[bool | None, typer.Option(help="Serve the chat page at /. [default: yes]")] = None,
    ollama: Annotated[
        bool | None, typer.Option("--ollama", help="Serve Ollama's API at /api/ too. [default: no]")
    ] = None,
    unknown_fields: Annotated[
        str | None, typer.Option(help="In requests: refuse, warn (a header) or ignore. [default: warn]")
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(help="debug, info, warning or error. [default: info]")
    ] = None,
    drain_seconds: Annotated[
        float | None, typer.Option(help="Time for running requests after SIGTERM. [default: 30]")
    ] = None,
) -> None:
    """Serve OpenAI's API over HTTP: chat, completions, responses, embeddings.

    Options override the environment (BINHDAN_PORT for --port), which overrides --config. An address that
    other machines can reach requires an API key. Logs are JSON on standard error. After SIGTERM, running
    requests finish.
    """
    given = {name: value for name, value in locals().items() if value not in (None, [])}
    file, first = given.pop("config", None), given.pop("model", None)
    if first is not None:
        given["models"] = [first, *given.get("models", ())]
    # load() takes the keys out of its argument.
    run(lambda: load(file, os.environ, dict(given)))


def run(read_settings: Callable[[], ServerConfig]) -> None:
    """Serves until SIGTERM or Ctrl-C. SIGHUP reads the settings again, for keys, limits, prices and the
    certificate. Raises BinhdanError if the server cannot start."""
    config = read_settings()
    from binhdan.runtime.server.app import create_app

    check_models(config.files())
    logs.configure(config.log_level)
    listeners = listen(config)
    app = create_app(config)
    parts = app.state.server
    pool: ModelPool = parts.pool

    def reload() -> ServerConfig:
        changed = read_settings()
        parts.reload(changed)
        return changed

    server = Server(uvicorn_config(app, config), config, pool, reload)
    signal.signal(signal.SIGHUP, server.reload_soon)
    # uvicorn handles the signal while it runs, and raises it again after the shutdown.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        server.run(listeners)
    finally:
        remove_sockets(config)
    if pool.failed is not None:
        raise BinhdanError(f"the server stopped: {pool.failed.__cause__ or pool.failed}")


def uvicorn_config(application: ASGIApp, config: ServerConfig) -> uvicorn.Config:
    """uvicorn's configuration, with the limits of connections."""
    limits = ConnectionLimits(
        max_connections=config.max_connections,
        max_header_bytes=config.max_header_bytes,
        max_body_bytes=config.max_body_bytes,
        header_seconds=config.header_seconds,
        write_seconds=config.write_seconds,
    )
    seconds: dict[str, Any] = {  # declared as int, but uvicorn accepts any number
        "timeout_keep_alive": config.keep_alive_seconds,
        "timeout_graceful_shutdown": END_SECONDS,
    }
    tls: dict[str, Any] = {}
    if config.tls_cert is not None:
        tls = {"ssl_certfile": config.tls_cert, "ssl_keyfile": config.tls_key}
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
        **tls,
    )
