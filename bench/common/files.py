"""Reads and writes whole result files, and reads the small files of /proc and /sys."""

from __future__ import annotations

import os
import re
from pathlib import Path

from binhdan.runtime.errors import BadFormatError, FileReadError
from binhdan.runtime.reasons import file_reason


def read_whole(path: Path, max_bytes: int) -> bytes:
    """Returns the bytes of a file. Raises FileReadError, and BadFormatError for a file above `max_bytes`."""
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise FileReadError(file_reason(error, path)) from error
    if len(data) > max_bytes:
        raise BadFormatError(f"{path}: expected a file of at most {max_bytes:,} bytes, got more")
    return data


def write_whole(path: Path, text: str) -> None:
    """Replaces the file atomically: after a failure the old file is unchanged. Raises FileReadError."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise FileReadError(file_reason(error, path)) from error


def replace_block(page: Path, block: re.Pattern[str], text: str, name: str) -> None:
    """Writes `text` between the groups 1 and 2 of `block`, which must occur once in a page.

    Raises BadFormatError if it does not, FileReadError if the page cannot be read or written.
    """
    try:
        old = page.read_text(encoding="utf-8")
    except OSError as error:
        raise FileReadError(file_reason(error, page)) from error
    changed, count = block.subn(lambda found: found[1] + text + found[2], old)
    if count != 1:
        raise BadFormatError(f"{page}: expected one block {name}, found {count}")
    write_whole(page, changed)


def text_of(path: Path) -> str:
    """The text of a file in /proc or /sys; "" where the file does not exist."""
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def number_in(path: Path) -> int | None:
    """The number in a file that contains only a whole number; None for any other file."""
    text = text_of(path).strip()
    return int(text) if re.fullmatch(r"\d{1,20}", text) else None
