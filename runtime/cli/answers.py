"""Questions from the command line, and answers to it."""

from __future__ import annotations

import re
import sys

from binhdan.runtime.cli import console
from binhdan.runtime.client.restore import restore
from binhdan.runtime.client.stream import Stream
from binhdan.runtime.errors import InvalidArgumentError
from binhdan.runtime.results import Answer

_RESTORE = re.compile(r"\A\s*th[eê]m d[aấ]u\s*:\s*", re.IGNORECASE)


def restored(question: str) -> str | None:
    """The text after "thêm dấu:" with its diacritics, or None for another question.

    The embedded model restores diacritics less exactly than the n-gram file.
    """
    text = _RESTORE.sub("", question)
    return None if text == question else restore(text)


def print_stream(stream: Stream) -> None:
    """Streams the answer to standard output, and reasoning to standard error if that is a terminal."""
    for piece in stream:
        if piece.kind == "text":
            console.write(piece.text)
        elif sys.stderr.isatty():
            sys.stderr.write(f"\x1b[2m{console.printable(piece.text)}\x1b[0m")
            sys.stderr.flush()


def speed(answer: Answer) -> str:
    """For example "first token 12 ms, 345.6 tokens/s, 31 + 14 tokens"."""
    parts = [f"first token {answer.timings.ttft * 1000:.0f} ms"]
    if answer.tokens_per_second:
        parts.append(f"{answer.tokens_per_second:.1f} tokens/s")
    parts.append(f"{answer.prompt_tokens} + {answer.answer_tokens} tokens")
    reasons = {
        "length": "stopped at --max-tokens",
        "context": "the context is full",
        "cancelled": "stopped",
        "repetition": "stopped because it repeated itself",
    }
    return ", ".join(parts) + (
        f" ({reasons[answer.finish_reason]})" if answer.finish_reason in reasons else ""
    )


def read_prompt(argument: str | None) -> str:
    if argument is None and sys.stdin.isatty():
        raise InvalidArgumentError('the prompt is empty; try: binhdan ask "xin chào"')
    if argument is None or argument == "-":
        argument = console.read_input().decode("utf-8-sig", "replace").rstrip("\n")
    if not argument.strip():
        raise InvalidArgumentError("the prompt is empty")
    return argument
