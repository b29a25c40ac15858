"""Values of sysfs files. A file that is missing, unreadable or malformed raises MeterError."""

from __future__ import annotations

import re
from pathlib import Path

_NUMBER = re.compile(rb"\s*(-?\d{1,19})\s*")


class MeterError(OSError):
    """A meter cannot be read. The message says why."""


class MeterLost(MeterError):
    """A meter that is lost for good."""


def read_int(path: Path) -> int:
    """The integer in a file. Raises MeterError."""
    data = _read(path)
    match = _NUMBER.fullmatch(data)
    if match is None:
        raise MeterError(f"{path}: expected an integer, got {data[:20]!r}")
    return int(match[1])


def read_text(path: Path) -> str:
    """The first line of a file, up to 64 bytes. Raises MeterError."""
    return _read(path).decode("ascii", "replace").partition("\n")[0].strip()


def optional_text(path: Path) -> str:
    """The first line of a file, "" when it cannot be read."""
    try:
        return read_text(path)
    except MeterError:
        return ""


def folders(parent: Path, pattern: str) -> list[Path]:
    """Folders in `parent`, and links to folders, in numeric order. Empty when `parent` does not exist."""
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
