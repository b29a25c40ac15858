"""Options that several commands of `binhdan bench` have."""

from __future__ import annotations

from typing import Annotated

import typer

Model = Annotated[str | None, typer.Option("--model", "-m", help="GGUF file. Default: the embedded model.")]
Threads = Annotated[int | None, typer.Option(help="Default: the cores that this process may use.")]
Isa = Annotated[str | None, typer.Option(help="Kernel table. Default: the fastest.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
JsonArray = Annotated[bool, typer.Option("--json", help="Print one JSON array.")]
ServerKey = Annotated[
    str | None,
    typer.Option(envvar="BINHDAN_BENCH_API_KEY", help="API key of the server, if it requires one."),
]
