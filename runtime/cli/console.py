"""Output of the commands to the terminal, and input from standard input."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from binhdan.runtime.errors import BinhdanError, FileReadError, InvalidArgumentError
from binhdan.runtime.reasons import file_reason

_MAX_INPUT = 1 << 26  # bytes
# Text from a model or a file must not move the cursor or rename the window.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """`text` with U+FFFD in place of control characters other than tab and newline."""
    return _CONTROLS.sub("\ufffd", text)


def prepare() -> None:
    """Prepares the standard streams for any environment.

    Standard output becomes UTF-8 where its encoding lacks Vietnamese letters (LC_ALL=C, latin-1): answers and
    JSON stay exact. A character that the encoding of standard error lacks is replaced. A closed stream is
    replaced by an empty one.
    """
    sys.stdin = sys.stdin or open(os.devnull)  # noqa: SIM115  open until the program ends
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        encoding = sys.stdout.encoding if _writes_vietnamese(sys.stdout.encoding) else "utf-8"
        sys.stdout.reconfigure(encoding=encoding, errors="backslashreplace")
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(errors="replace")


def _writes_vietnamese(encoding: str) -> bool:
    try:
        return bool("Ửu đãi".encode(encoding))
    except (UnicodeEncodeError, LookupError):
        return False


def finish() -> None:
    """Flushes standard output. If that fails, drops the rest, because Python would write it again at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def write(text: str) -> None:
    """Writes to standard output and flushes it."""
    sys.stdout.write(printable(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def note(text: str) -> None:
    """Prints a remark to standard error if that is a terminal. Pipes and logs do not receive it."""
    if sys.stderr.isatty():
        print(printable(text), file=sys.stderr, flush=True)


def error(message: str) -> None:
    """Prints one line to standard error."""
    line = printable(" ".join(message.split()))
    with suppress(OSError):
        print(f"binhdan: {line}", file=sys.stderr, flush=True)


def message(error: Exception) -> str:
    """What error() prints for an exception. Errors of the operating system get words."""
    if isinstance(error, OSError) and not isinstance(error, BinhdanError):
        return file_reason(error)
    return str(error)


def is_terminal() -> bool:
    """True if standard input and standard output are a terminal."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def each_file(files: list[Path] | None) -> Sequence[Path | None]:
    """The files of an argument; None is standard input."""
    return files or [None]


def file_name(file: Path | None) -> str:
    return str(file or "standard input")


@contextmanager
def naming(file: Path | None, *, missing: str = "") -> Iterator[None]:
    """Errors inside name the file; None is standard input.

    Those of the operating system become FileReadError. missing: what to do if there is no such file.
    """
    try:
        yield
    except OSError as error:
        hint = missing if isinstance(error, FileNotFoundError) else ""
        raise FileReadError(file_reason(error, file_name(file)) + hint) from error
    except BinhdanError as error:
        raise type(error)(f"{file_name(file)}: {error}") from error


def read_file(file: Path | None) -> bytes:
    """All bytes of a file or of standard input. Use it in naming()."""
    return file.read_bytes() if file else sys.stdin.buffer.read()


def read_input() -> bytes:
    """All bytes of standard input. Raises InvalidArgumentError above 64 MiB."""
    data = sys.stdin.buffer.read(_MAX_INPUT + 1)
    if len(data) > _MAX_INPUT:
        raise InvalidArgumentError(f"standard input must not exceed {_MAX_INPUT >> 20} MiB; it is longer")
    return data
