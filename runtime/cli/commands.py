"""Runs a command line that is composed of commands from several packages.

Only the command that runs is imported. The help of `binhdan` needs names and descriptions alone.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from binhdan.runtime.cli import console
from binhdan.runtime.errors import BinhdanError
from binhdan.runtime.reasons import value_reason


@dataclass(frozen=True, slots=True)
class Command:
    """A command `name`: the Typer application `app` of `module`."""

    name: str
    module: str
    help: str
    extra: str | None = None  # the optional dependencies of the package that it needs


RUNTIME_COMMANDS = (
    Command("ask", "binhdan.runtime.cli.ask", "Ask one question and stream the answer."),
    Command("chat", "binhdan.runtime.cli.chat", "Chat with a model in the terminal."),
    Command("restore", "binhdan.runtime.cli.restore", "Restore the diacritics of Vietnamese text."),
    Command("spell", "binhdan.runtime.cli.spell", "List the misspelled words of Vietnamese text."),
    Command("convert-text", "binhdan.runtime.cli.convert_text", "Change the encoding of Vietnamese text."),
    Command("embed", "binhdan.runtime.cli.embed", "Compute the embeddings of texts, for search."),
    Command("info", "binhdan.runtime.cli.info", "Describe a GGUF file."),
    Command("pack", "binhdan.runtime.cli.pack", "Prepare a model for a fast start, in a file beside it."),
    Command("tokenize", "binhdan.runtime.cli.tokenize", "Show the tokens of a text."),
    Command("pull", "binhdan.runtime.cli.pull", "Download a model from a Hugging Face repository."),
    Command(
        "batch",
        "binhdan.runtime.cli.batch",
        "Run a file of requests in OpenAI's batch format.",
        extra="server",
    ),
    Command("serve", "binhdan.runtime.cli.serve", "Serve OpenAI's API over HTTP.", extra="server"),
)


def run(commands: Sequence[Command]) -> NoReturn:
    """Runs sys.argv and exits: 0 on success, 1 for an error, 2 for wrong usage, 130 after Ctrl-C."""
    arguments = sys.argv[1:]
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    debug = "--debug" in options
    if debug:
        arguments.remove("--debug")
    console.prepare()
    sys.exit(_run(commands, arguments, debug))


class _Group(TyperGroup):
    """A group that imports a command when it runs."""

    table: dict[str, Command]

    def add(self, commands: Sequence[Command]) -> None:
        self.table = {command.name: command for command in commands}
        # The names only, for suggestions after a misspelled name. get_command() imports the command.
        self.commands = dict.fromkeys(self.table)  # type: ignore[assignment]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command = self.table.get(cmd_name)
        if command is None:
            return None
        ctx.obj = command
        return typer.main.get_command(importlib.import_module(command.module).app)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(command.name, command.help) for command in self.table.values()])

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            command: Command | None = ctx.obj
            if command is None:
                raise
            raise _missing_module(command, error) from error


def _missing_module(command: Command, error: ModuleNotFoundError) -> Exception:
    if (error.name or "").startswith("binhdan"):
        return BinhdanError(f"this installation has no {command.name} command: it lacks {error.name}")
    if command.extra is None:
        return error
    return BinhdanError(
        f"binhdan {command.name} needs {error.name}; install it with: pip install 'binhdan[{command.extra}]'"
    )


_app = typer.Typer(
    cls=_Group,
    help="Small Vietnamese language models on the machines people already have.",
    epilog="Every command shows the traceback of an error with --debug.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


def _show_version(wanted: bool) -> None:
    if not wanted:
        return
    from binhdan.runtime.ffi import library

    lib = library()
    console.write(f"binhdan {lib.version()}\nkernels: {' '.join(lib.isas())}\n")
    console.write(f"processor: {lib.cpu_name() or 'unknown'}, {lib.usable_cores()} usable cores\n")
    raise typer.Exit


@_app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show version and processor."),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """The options of every command. run() removes --debug at any position."""


def _run(commands: Sequence[Command], arguments: list[str], debug: bool) -> int:
    group: Any = typer.main.get_command(_app)
    group.add(commands)
    try:
        code = group(arguments, prog_name="binhdan", standalone_mode=False)
        if code == 130:
            console.note("")  # the shell's prompt starts on a new line
        return code if isinstance(code, int) else 0
    except BrokenPipeError:  # the reader of the output has closed the pipe
        return 1
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except Exception as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # its message is the help
            console.write(f"{error.format_message()}\n")  # type: ignore[attr-defined]
            return 0
        if debug:
            traceback.print_exc()
        console.error(_message(error))
        return 2 if _is_usage_error(error) else 1
    finally:
        console.finish()


def _is_usage_error(error: Exception) -> bool:
    """True for errors of click, which Typer contains under a private name."""
    return hasattr(error, "format_message")


def _usage_message(error: Any) -> str:
    context = getattr(error, "ctx", None)
    hint = f" (see {context.command_path} --help)" if context is not None else ""
    parameter = getattr(error, "param", None)
    invalid: Any = error.__cause__  # newer versions of Typer validate values with pydantic
    if parameter is None or not hasattr(invalid, "errors"):
        return str(error.format_message()) + hint
    name = str(parameter.get_error_hint()).replace("'", "")
    return f"{name}: {value_reason(invalid.errors()[0])}{hint}"


def _message(error: Exception) -> str:
    if _is_usage_error(error):
        return _usage_message(error)
    if isinstance(error, (BinhdanError, OSError)):
        return console.message(error)
    return f"internal error: {type(error).__name__}: {error} (run again with --debug for the traceback)"
