"""`binhdan restore`: restores the diacritics of text files."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional, cast

import typer

from binhdan.runtime.cli import console
from binhdan.runtime.cli.options import TextFiles, TextKind
from binhdan.runtime.client import restore as restoring
from binhdan.runtime.client.encodings import Encoding, check_encoding, decode, encode, recognize
from binhdan.runtime.client.masked_restore import Restorer, syllables
from binhdan.runtime.client.model import load
from binhdan.runtime.errors import InvalidArgumentError
from binhdan.runtime.ffi import TextFormat, ToneStyle, Typing

if TYPE_CHECKING:
    from io import BufferedReader

    from binhdan.runtime.cost.cost_model import CostModel

_BLOCK = 1 << 16  # bytes that are read or written at once
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def restore(
    files: TextFiles = None,
    style: Annotated[
        str, typer.Option(help="Tone of oa, oe, uy: new (hoà), old (hòa), or keep for the style of the text.")
    ] = "keep",
    format: TextKind = None,
    min_confidence: Annotated[
        float, typer.Option(min=0, max=1, help="Leave a word with a lower probability as it is.")
    ] = 0.0,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print each word that had a choice, with probabilities.")
    ] = False,
    fast: Annotated[
        bool, typer.Option("--fast", help="Use the n-grams only, without the scorer: many times faster.")
    ] = False,
    typing: Annotated[
        str, typer.Option(help="The text has the keys of an input method: telex (tieesng), vni (tie6ng1).")
    ] = "none",
    teencode: Annotated[
        bool, typer.Option("--teencode", help="Write out the short forms of chat (ko: không).")
    ] = False,
    source: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--from", help="utf-8, utf-16, tcvn3, vni or viqr. [default: recognised in files, else utf-8]"
        ),
    ] = None,
    target: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--to", help="Encoding of the result. [default: utf-8; utf-16 for utf-16]"),
    ] = None,
    model: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--model", "-m", help="Use a language model (GGUF) instead of the n-gram file."),
    ] = None,
    max_concurrent: Annotated[
        int, typer.Option(help="With --model: max parts of the text in one batch.")
    ] = 16,
    threads: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="With --model: threads. [default: the usable cores]"),
    ] = None,
    stats: Annotated[
        bool, typer.Option("--stats", help="Print syllables per second and đồng to standard error.")
    ] = False,
    board: Annotated[
        str, typer.Option(help="Board for the cost: a name in runtime/cost/boards, or a .toml file.")
    ] = "unknown",
) -> None:
    """Restore the diacritics of Vietnamese text, and change nothing else.

    Typed marks stay, and text that has all its marks stays as it is. Text from a pipe is restored as it
    arrives. Lines that are not UTF-8 do not change.
    """
    restoring.check_options(style, format or "text", typing)
    for option, encoding in (("from", source), ("to", target)):
        if encoding is not None:
            check_encoding(option, encoding)
    cost_of = _cost_model(board) if stats else None  # fail on an unknown board before starting
    changes = style != "keep" or typing != "none" or min_confidence or explain or teencode or fast
    if model is not None and (changes or format is not None or source is not None or target is not None):
        raise InvalidArgumentError(
            "--style, --format, --min-confidence, --fast, --typing, --teencode, --explain, --from and --to"
            " need the n-gram file, no --model"
        )
    if explain and teencode:
        raise InvalidArgumentError("expected --explain or --teencode, got both")
    begin, count = time.monotonic(), 0
    if model is not None:
        parts = _with_model(files, model, threads, max_concurrent)
    else:
        work = _Work(
            {
                "style": cast("ToneStyle", style),
                "min_confidence": min_confidence,
                "typing": cast("Typing", typing),
                "fast": fast,
            },
            cast("TextFormat | None", format),
            teencode,
            explain,
            cast("Encoding | None", source),
            cast("Encoding | None", target),
        )
        parts = work.run(files)
    for part in parts:
        for offset in range(0, len(part), _BLOCK):  # so that a closed pipe is noticed
            sys.stdout.buffer.write(part[offset : offset + _BLOCK])
            sys.stdout.buffer.flush()
        if stats:
            count += syllables(part.decode("utf-8", "replace"))
    if stats:
        seconds = time.monotonic() - begin
        speed = count / seconds if seconds else 0.0
        print(
            f"{count:,} syllables in {seconds:.1f} s: {speed:,.0f} a second{_cost(speed, cost_of)}",
            file=sys.stderr,
        )


@dataclass(frozen=True, slots=True)
class _Work:
    """Restores with the n-gram file. source, target: encodings; None recognises it, and keeps UTF-16."""

    settings: restoring.RestoreSettings
    format: TextFormat | None  # None: by the extension of each file
    teencode: bool
    explained: bool
    source: Encoding | None
    target: Encoding | None

    def run(self, files: list[Path] | None) -> Iterator[bytes]:
        for file in console.each_file(files):
            format = self.format or (restoring.format_of(file) if file else "text")
            with _naming(file):
                for data in _parts(file, whole=format != "text" or self.source == "utf-16"):
                    yield self._one(data, format, file)

    def _one(self, data: bytes, format: TextFormat, file: Path | None) -> bytes:
        source = self.source or _recognized(data, file)
        if source is not None:
            data = decode(data, source).encode("utf-8", "surrogatepass")
        elif self.target is not None:
            data = decode(data, "utf-16" if data.startswith(_UTF16_MARKS) else "utf-8").encode()
        settings: restoring.RestoreSettings = {**self.settings, "format": format}
        if self.explained:
            text = data.decode("utf-8", "replace")
            return _table(restoring.explain(text, **settings), text.encode())
        done = restoring.restore_bytes(data, teencode=self.teencode, **settings)
        return done if self.target is None else encode(done.decode("utf-8", "surrogatepass"), self.target)


def _recognized(data: bytes, file: Path | None) -> Encoding | None:
    """The old encoding of a file that is not UTF-8; with a message, also if it does not show."""
    if file is None or data.startswith(_UTF16_MARKS):
        return None
    try:
        data.decode("utf-8")
        return None
    except UnicodeDecodeError:
        found = None if b"\0" in data else recognize(data)
    if found is None:
        console.error(f"{file}: lines that are not UTF-8 stay: expected their encoding with --from")
    else:
        console.error(f"{file}: recognised as {found}; the result is UTF-8, or as --to says")
    return found


def _table(found: restoring.Restored, data: bytes) -> bytes:
    """One line per word: as it was typed, then its forms with probabilities."""
    lines = []
    for choice in found.choices:
        forms = ", ".join(f"{text} {probability:.1%}" for text, probability in choice.alternatives)
        lines.append(data[choice.begin : choice.end] + f"\t{forms}\n".encode())
    return b"".join(lines)


def _parts(file: Path | None, *, whole: bool) -> Iterator[bytes]:
    """A file as a whole. Standard input in parts that end with a line, as soon as they arrive, unless `whole`
    or UTF-16."""
    if file is not None:
        yield file.read_bytes()
        return
    stream = cast("BufferedReader", sys.stdin.buffer)
    rest = b""
    while data := stream.read1(_BLOCK):
        rest += data
        if len(rest) < 2:
            continue
        if whole or rest.startswith(_UTF16_MARKS):
            rest += stream.read()
            break
        end = rest.rfind(b"\n") + 1
        if end:
            yield rest[:end]
            rest = rest[end:]
    if rest:
        yield rest


def _naming(file: Path | None) -> AbstractContextManager[None]:
    return console.naming(file, missing="; to restore a text itself: echo 'viet nam' | binhdan restore")


def _with_model(
    files: list[Path] | None, model: str, threads: int | None, max_concurrent: int
) -> Iterator[bytes]:
    with load(model, threads=threads, max_sequences=max(max_concurrent, 1)) as loaded:
        restorer = Restorer(loaded, max_concurrent)
        with asyncio.Runner() as runner:
            lines = restorer.lines(_lines(files))
            while (line := runner.run(_next(lines))) is not None:
                yield line.encode("utf-8", "surrogateescape")


async def _next(lines: AsyncIterator[str]) -> str | None:
    return await anext(lines, None)


async def _lines(files: list[Path] | None) -> AsyncIterator[str]:
    """A thread reads the lines, so that slow input does not delay answers."""
    for file in console.each_file(files):
        with _naming(file):
            parts = _parts(file, whole=False)
            while (part := await asyncio.to_thread(next, parts, None)) is not None:
                for line in part.splitlines(keepends=True):
                    yield line.decode("utf-8", "surrogateescape")


def _cost_model(board: str) -> CostModel | None:
    try:
        from binhdan.runtime.cost.cost_model import CostModel
        from binhdan.runtime.cost.figures import load_board
    except ModuleNotFoundError:
        return None
    return CostModel(board=load_board(board))


def _cost(speed: float, cost_of: CostModel | None) -> str:
    if cost_of is None:
        return "; to show the cost: pip install 'binhdan[server]'"
    if not speed:
        return ""
    cost = cost_of.answer(1e6 / speed)
    return f"; {cost.vnd:,.1f} đ for a million ({cost.basis})"
