"""Files of results, read and written whole, and the small ones in which Linux tells of itself."""

from __future__ import annotations

import os
import re
from pathlib import Path

from binhdan.runtime.errors import BadFormatError, FileReadError


def read_whole(path: Path, most_bytes: int) -> bytes:
    """Raises FileReadError, and BadFormatError for a file that is larger: it is none of ours."""
    try:
        with path.open("rb") as file:
            data = file.read(most_bytes + 1)
    except OSError as error:
        raise FileReadError(f"{path}: {error.strerror}") from error
    if len(data) > most_bytes:
        raise BadFormatError(f"{path}: more than {most_bytes:,} bytes")
    return data


def write_whole(path: Path, text: str) -> None:
    """All of it or, whatever happens, what was there before. Raises FileReadError."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise FileReadError(f"{path}: {error.strerror}") from error


def text_of(path: Path) -> str:
    """Of a file in /proc or /sys; "" where there is none."""
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def number_in(path: Path) -> int | None:
    """The same of a file that holds nothing but a whole number."""
    text = text_of(path).strip()
    return int(text) if re.fullmatch(r"\d{1,20}", text) else None
