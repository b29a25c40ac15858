"""Output of the commands: JSON and progress."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def to_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)  # default: paths as text


@contextmanager
def progress(total: int) -> Iterator[Callable[[int, str], None]]:
    """A progress bar on standard error, if that is a terminal. Yields a function that takes the round and the
    name of the next step."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total)

        def step(turn: int, name: str) -> None:
            bar.update(task, description=f"round {turn + 1}: {name}")
            bar.advance(task)

        yield step
