"""What the commands print and write."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from binhdan.runtime.errors import FileReadError


def to_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)  # paths are text


def write_whole(path: Path, text: str) -> None:
    """All of it or, whatever happens, what was there before. Raises FileReadError."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise FileReadError(f"{path}: {error.strerror}") from error


@contextmanager
def progress(total: int) -> Iterator[Callable[[int, str], None]]:
    """A bar on the terminal's standard error; what is yielded says what comes next."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total)

        def step(turn: int, name: str) -> None:
            bar.update(task, description=f"round {turn + 1}: {name}")
            bar.advance(task)

        yield step
