"""Values of sysfs files. They may vanish, be denied or hold garbage: all of it is a MeterError."""

from __future__ import annotations

import re
from pathlib import Path

_NUMBER = re.compile(rb"\s*(-?\d{1,19})\s*")


class MeterError(OSError):
    """A meter that cannot be read, and why."""


class MeterLost(MeterError):
    """And will not come back."""


def read_int(path: Path) -> int:
    """The one whole number in a file. Raises MeterError."""
    data = _read(path)
    match = _NUMBER.fullmatch(data)
    if match is None:
        raise MeterError(f"{path} holds {data[:20]!r}; expected a whole number")
    return int(match[1])


def read_text(path: Path) -> str:
    """The first line of a file, at most 64 bytes of it. Raises MeterError."""
    return _read(path).decode("ascii", "replace").partition("\n")[0].strip()


def optional_text(path: Path) -> str:
    """As read_text, "" where it cannot be read."""
    try:
        return read_text(path)
    except MeterError:
        return ""


def folders(parent: Path, pattern: str) -> list[Path]:
    """Folders in `parent`, links to them too, in the order of their numbers. None where there is no
    parent."""
    try:
        found = [path for path in parent.glob(pattern) if path.is_dir()]
    except OSError:
        return []
    return sorted(
        found, key=lambda path: [int(part) if part.isdigit() else 0 for part in re.split(r"(\d+)", path.name)]
    )


def _read(path: Path) -> bytes:
    try:
        with path.open("rb", buffering=0) as file:
            return file.read(64) or b""
    except OSError as error:
        raise MeterError(f"{path}: {error.strerror or error}") from error
