"""The command line: `binhdan`. One file per command; this one joins them and turns every error into one
line."""

from __future__ import annotations

import importlib
import sys
import traceback
from typing import Annotated, Any, NoReturn

import typer

from binhdan.runtime.cli import console
from binhdan.runtime.errors import BinhdanError

app = typer.Typer(
    help="Small Vietnamese language models on the machines people already have.",
    epilog="Any command shows the traceback of an error with --debug.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

# Commands that need more than the runtime are imported when they are called: name -> module, extra, help.
_ELSEWHERE = {
    "serve": ("binhdan.runtime.cli.serve", "server", "Answer OpenAI's API over HTTP."),
    "bench": ("binhdan.bench.cli", "bench", "Measure what this machine makes of a model."),
    "quantize": ("binhdan.quantize.cli", "quantize", "Turn a checkpoint folder into a GGUF file."),
}


def _show_version(wanted: bool) -> None:
    if not wanted:
        return
    from binhdan.runtime.ffi import library

    lib = library()
    console.write(f"binhdan {lib.version()}\nkernels: {' '.join(lib.isas())}\n")
    console.write(f"processor: {lib.cpu_name() or 'unknown'}, {lib.usable_cores()} usable cores\n")
    raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show version and processor."),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Options of every command; main() takes --debug out wherever it stands."""


def _add_commands() -> None:
    from binhdan.runtime.cli.ask import ask
    from binhdan.runtime.cli.chat import chat
    from binhdan.runtime.cli.info import info
    from binhdan.runtime.cli.pull import pull
    from binhdan.runtime.cli.restore import restore
    from binhdan.runtime.cli.tokenize import tokenize

    for command in (ask, chat, restore, info, tokenize, pull):
        app.command()(command)
    for name, (module, extra, description) in _ELSEWHERE.items():
        passing = {"allow_extra_args": True, "ignore_unknown_options": True}
        add = app.command(name, help=description, context_settings=passing, add_help_option=False)
        add(_forward(name, module, extra))


def _forward(name: str, module: str, extra: str) -> Any:
    def run(context: typer.Context) -> None:
        try:
            commands = importlib.import_module(module).app
            code = commands(context.args, prog_name=f"binhdan {name}", standalone_mode=False)
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("binhdan"):
                raise BinhdanError(f"this installation has no {name} command") from error
            raise BinhdanError(
                f"binhdan {name} needs {error.name}; install it with: pip install 'binhdan[{extra}]'"
            ) from error
        raise typer.Exit(code if isinstance(code, int) else 0)

    return run


def main() -> NoReturn:
    """The entry point. Exit codes: 0, 1 for an error, 2 for wrong usage, 130 after Ctrl-C."""
    arguments = sys.argv[1:]
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    debug = "--debug" in own
    if debug:
        arguments.remove("--debug")
    console.prepare()
    sys.exit(_run(arguments, debug))


def _run(arguments: list[str], debug: bool) -> int:
    try:
        _add_commands()
        code = app(arguments, prog_name="binhdan", standalone_mode=False)
        if code == 130:
            console.note("")  # the shell's prompt starts on a new line
        return code if isinstance(code, int) else 0
    except BrokenPipeError:  # who read our output has gone
        return 1
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except Exception as error:
        if debug:
            traceback.print_exc()
        usage = hasattr(error, "format_message")  # of click, wherever typer keeps it
        console.error(_message(error))
        return 2 if usage else 1
    finally:
        console.finish()


def _message(error: Exception) -> str:
    if hasattr(error, "format_message"):
        context = getattr(error, "ctx", None)
        hint = f" (see {context.command_path} --help)" if context is not None else ""
        return str(error.format_message()) + hint
    if isinstance(error, (BinhdanError, OSError)):
        return str(error)
    return f"internal error: {type(error).__name__}: {error} (--debug shows where)"
