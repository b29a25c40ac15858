"""The command line without the extra `cli`: only `binhdan ask QUESTION` and `binhdan --version`.

The package needs few other packages, because apps embed it. So a newcomer's first question is answered
without Typer, and every other command names the extra.
"""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn

from binhdan.runtime.cli import console
from binhdan.runtime.cli.answers import print_stream, read_prompt, restored, speed
from binhdan.runtime.client.model import load
from binhdan.runtime.errors import BinhdanError
from binhdan.runtime.ffi import library

_INSTALL = "pip install 'binhdan[cli]' (from a clone: pip install '.[cli]')"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        console.error(f"{message}; for all commands and options: {_INSTALL}")
        raise SystemExit(2)


def run() -> NoReturn:
    """Runs sys.argv and exits: 0 on success, 1 for an error, 2 for wrong usage, 130 after Ctrl-C."""
    console.prepare()
    try:
        _run(sys.argv[1:])
        code = 0
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:  # the reader of the output has closed the pipe
        code = 1
    except (BinhdanError, OSError) as error:
        console.error(console.message(error))
        code = 1
    console.finish()
    raise SystemExit(code)


def _run(arguments: list[str]) -> None:
    parser = _Parser("binhdan", epilog=f"This is the small command line. All commands: {_INSTALL}")
    parser.add_argument("--version", action="store_true", help="Show version and processor.")
    commands = parser.add_subparsers(dest="command", metavar="ask")
    ask = commands.add_parser("ask", help="Ask one question and stream the answer.")
    ask.add_argument("prompt", nargs="?", help="The question; - or none reads standard input.")
    ask.add_argument("--model", "-m", metavar="FILE", help="GGUF file. [default: embedded]")
    parsed = parser.parse_args(arguments)
    if parsed.version:
        console.write(f"binhdan {library().version()}\nkernels: {' '.join(library().isas())}\n")
    elif parsed.command is None:
        parser.print_help()
    else:
        _ask(read_prompt(parsed.prompt), parsed.model)


def _ask(question: str, model: str | None) -> None:
    if model is None and (text := restored(question)) is not None:
        console.write(text + "\n")
        return
    with load(model) as loaded:
        stream = loaded.ask(question, stream=True)
        print_stream(stream)
        console.write("\n")
        console.note(speed(stream.answer()))
