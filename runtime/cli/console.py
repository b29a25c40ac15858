"""What the commands write to the terminal, and read from standard input."""

from __future__ import annotations

import io
import os
import re
import sys
from contextlib import suppress

from binhdan.runtime.errors import InvalidArgumentError

_MAX_INPUT = 1 << 26  # bytes
# Neither a model nor a file may move the cursor or rename the window.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """`text` with U+FFFD for control characters other than tab and newline."""
    return _CONTROLS.sub("\ufffd", text)


def prepare() -> None:
    """Makes the standard streams usable, whatever they are.

    Characters that the terminal's encoding lacks are replaced; a stream that is closed is as good as empty.
    """
    sys.stdin = sys.stdin or open(os.devnull)  # noqa: SIM115  for as long as the program runs
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def finish() -> None:
    """Python writes what is left once more when it ends; what the system would not take must not be left."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def write(text: str) -> None:
    """To standard output, at once."""
    sys.stdout.write(printable(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def note(text: str) -> None:
    """A remark on standard error, when that is a terminal: pipes and logs get none."""
    if sys.stderr.isatty():
        print(printable(text), file=sys.stderr, flush=True)


def error(message: str) -> None:
    """One line on standard error."""
    line = printable(" ".join(message.split()))
    with suppress(OSError):
        print(f"binhdan: {line}", file=sys.stderr, flush=True)


def is_terminal() -> bool:
    """Do a person's keyboard and screen stand at the other end?"""
    return sys.stdin.isatty() and sys.stdout.isatty()


def read_input() -> bytes:
    """All of standard input. Raises InvalidArgumentError above 64 MiB."""
    data = sys.stdin.buffer.read(_MAX_INPUT + 1)
    if len(data) > _MAX_INPUT:
        raise InvalidArgumentError(f"standard input holds more than {_MAX_INPUT >> 20} MiB")
    return data
