"""Output of the commands: JSON and progress."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def to_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)  # default: paths as text


Step = Callable[[int, str], None]  # takes the round and the name of the next step


@contextmanager
def progress(total: int) -> Iterator[Step]:
    """A progress bar on standard error, if that is a terminal. Yields a function to call before each step."""
    with progress_after("") as begin:
        yield begin(total)


@contextmanager
def progress_after(preparation: str) -> Iterator[Callable[[int], Step]]:
    """A progress bar whose number of steps is known only after `preparation`. Yields a function that takes
    this number.

    The bar is drawn between steps only: a bar that refreshes itself takes CPU time from the engine.
    """
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(
        console=console, transient=True, auto_refresh=False, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(preparation, total=None)
        bar.refresh()

        def begin(total: int) -> Step:
            bar.update(task, total=total, description="", refresh=True)
            return step

        def step(turn: int, name: str) -> None:
            bar.update(task, description=f"round {turn + 1}: {name}", advance=1, refresh=True)

        yield begin
