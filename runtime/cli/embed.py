"""`binhdan embed`: the embeddings of the lines of a file."""

from __future__ import annotations

import array
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO, Literal, Optional, Protocol

import typer

from binhdan.runtime.cli import console
from binhdan.runtime.cli import options as shared
from binhdan.runtime.client.model import load
from binhdan.runtime.errors import BinhdanError, FileReadError, InvalidArgumentError
from binhdan.runtime.reasons import file_reason

_MAX_LINE = 1 << 24  # bytes
_E5_PREFIXES = {"query": "query: ", "passage": "passage: "}

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def embed(
    file: Annotated[
        Path,
        typer.Argument(
            help='One text per line, or JSON objects with "text" (.jsonl); - reads standard input.'
        ),
    ],
    model: shared.Model = None,
    out: Annotated[
        Optional[Path],  # noqa: UP045  typer reads it at run time
        typer.Option("--out", "-o", help="OUT.jsonl or OUT.npy. [default: JSON lines on standard output]"),
    ] = None,
    jsonl: Annotated[
        bool, typer.Option("--jsonl", help='The input has JSON objects with "text". [default: by its name]')
    ] = False,
    prefix: Annotated[str, typer.Option(help="Precedes each text.")] = "",
    e5: Annotated[
        Optional[Literal["query", "passage"]],  # noqa: UP045
        typer.Option(help='The prefix of E5 models: "query: " or "passage: ".'),
    ] = None,
    dimensions: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="Keep the first values, for models trained for it (Matryoshka)."),
    ] = None,
    no_normalize: Annotated[
        bool, typer.Option("--no-normalize", help="Do not scale the embeddings to length 1.")
    ] = False,
    truncate: Annotated[
        bool, typer.Option("--truncate", help="Cut texts that the context cannot hold. [default: an error]")
    ] = False,
    threads: shared.Threads = None,
) -> None:
    """Compute the embeddings of texts, for search.

    Each line has one embedding. A line that is blank, not UTF-8 or too long is an error that names the line.
    With -o, the file appears when it is complete.
    """
    if prefix and e5 is not None:
        raise typer.BadParameter("expected --prefix or --e5, got both")
    name = "standard input" if str(file) == "-" else str(file)
    begin, count = time.monotonic(), 0
    with ExitStack() as stack:
        source = _Lines(stack, file, name, jsonl or file.suffix == ".jsonl")
        writer = stack.enter_context(_writer(out))
        loaded = stack.enter_context(load(model, threads=threads, prefix_cache=False))
        vectors = loaded.embed_each(
            source.texts(),
            name=lambda position: f"{name}: line {position + 1}",
            prefix=prefix if e5 is None else _E5_PREFIXES[e5],
            dimensions=dimensions,
            normalize=not no_normalize,
            truncate=truncate,
        )
        advance = stack.enter_context(_progress(source.size))
        for vector in vectors:
            writer.write(vector)
            count += 1
            advance(source.bytes_read, count)
        writer.finish(dimensions or loaded.info.embedding)
    console.note(f"{count:,} embeddings in {time.monotonic() - begin:.1f} s")


# ---- input -------------------------------------------------------------------------------------------------


class _Lines:
    """The texts of a file. Raises FileReadError, and InvalidArgumentError that names a line."""

    def __init__(self, stack: ExitStack, file: Path, name: str, jsonl: bool) -> None:
        self._name = name
        self._jsonl = jsonl
        self.bytes_read = 0
        self.size: int | None = None  # None: standard input
        try:
            self._stream: BinaryIO = sys.stdin.buffer
            if str(file) != "-":
                self._stream = stack.enter_context(file.open("rb"))
                self.size = file.stat().st_size
        except OSError as error:
            raise FileReadError(file_reason(error, name)) from error

    def texts(self) -> Iterator[str]:
        number = 0
        while data := self._read():
            number += 1
            if len(data) > _MAX_LINE:
                raise self._error(number, f"expected at most {_MAX_LINE >> 20} MiB, got more")
            self.bytes_read += len(data)
            try:
                line = data.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise self._error(number, f"expected UTF-8, but byte {error.start} is not") from None
            if not line.strip():
                raise self._error(number, "expected a text, got a blank line; remove it")
            yield self._field(number, line) if self._jsonl else line

    def _read(self) -> bytes:
        try:
            return self._stream.readline(_MAX_LINE + 1)
        except OSError as error:
            raise FileReadError(file_reason(error, self._name)) from error

    def _field(self, number: int, line: str) -> str:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise self._error(number, f"expected a JSON object: {error}") from None
        text = value.get("text") if isinstance(value, dict) else None
        if not isinstance(text, str) or not text.strip():
            raise self._error(number, 'expected a JSON object with a text in the field "text"')
        return text

    def _error(self, number: int, message: str) -> InvalidArgumentError:
        return InvalidArgumentError(f"{self._name}: line {number}: {message}")


# ---- output ------------------------------------------------------------------------------------------------


class _Writer(Protocol):
    def write(self, vector: array.array[float]) -> None:
        """Appends one embedding."""

    def finish(self, width: int) -> None:
        """After the last one. `width`: values of an embedding, if there was none."""


@contextmanager
def _writer(out: Path | None) -> Iterator[_Writer]:
    """Writes beside `out`, and renames the file when it is complete."""
    if out is None:
        yield _JsonLines(sys.stdout.buffer)
        return
    kinds: dict[str, Callable[[BinaryIO], _Writer]] = {".jsonl": _JsonLines, ".npy": _Npy}
    if out.suffix not in kinds:
        raise typer.BadParameter(f"--out: expected a name that ends with .jsonl or .npy, got {out.name}")
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as stream:
            yield kinds[out.suffix](stream)
        os.replace(part, out)
    except BinhdanError:
        raise
    except OSError as error:
        raise FileReadError(f"cannot write {file_reason(error, out)}") from error
    finally:
        part.unlink(missing_ok=True)


class _JsonLines:
    """{"index": 0, "embedding": [...]} on each line, with the digits that restore each float32."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._count = 0

    def write(self, vector: array.array[float]) -> None:
        values = ", ".join(f"{value:.9g}" for value in vector)
        self._stream.write(f'{{"index": {self._count}, "embedding": [{values}]}}\n'.encode())
        self._count += 1

    def finish(self, width: int) -> None:
        self._stream.flush()


class _Npy:
    """A numpy array of float32, (texts, width). Format: numpy.lib.format, version 1.0."""

    _HEADER_BYTES = 128

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._count = 0
        self._width: int | None = None
        stream.write(bytes(self._HEADER_BYTES))  # the number of texts is not known yet

    def write(self, vector: array.array[float]) -> None:
        if sys.byteorder == "big":
            vector.byteswap()
        self._width = len(vector)
        self._stream.write(vector.tobytes())
        self._count += 1

    def finish(self, width: int) -> None:
        shape = (self._count, width if self._width is None else self._width)
        magic = b"\x93NUMPY\x01\x00" + (self._HEADER_BYTES - 10).to_bytes(2, "little")
        fields = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode()
        self._stream.seek(0)
        self._stream.write(magic + fields.ljust(self._HEADER_BYTES - 11) + b"\n")


# ---- progress ----------------------------------------------------------------------------------------------


class _Advance(Protocol):
    def __call__(self, bytes_read: int, texts: int) -> None: ...


@contextmanager
def _progress(size: int | None) -> Iterator[_Advance]:
    """A progress bar on standard error if that is a terminal. `size`: bytes of the input; None: not known."""
    if not sys.stderr.isatty():
        yield lambda bytes_read, texts: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    count, speed = TextColumn("{task.fields[texts]:,} texts"), TextColumn("{task.fields[rate]:,.0f}/s")
    columns = (BarColumn(), count, speed, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=size, texts=0, rate=0.0)
        begin = time.monotonic()

        def advance(bytes_read: int, texts: int) -> None:
            rate = texts / max(time.monotonic() - begin, 1e-3)
            bar.update(task, completed=bytes_read, texts=texts, rate=rate)

        yield advance
