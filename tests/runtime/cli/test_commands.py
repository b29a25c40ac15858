"""runtime/cli/commands.py and binhdan/commands.py: the composition of the command line."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from binhdan.commands import COMMANDS
from binhdan.runtime.cli.commands import RUNTIME_COMMANDS, Command

# Runs the command line, then prints the modules that it imported.
PROGRAM = """
import sys
from binhdan.commands import main
try:
    main()
finally:
    print(*[name for name in sys.modules if name.startswith("binhdan.")], file=sys.stderr)
"""


def imported_by(*arguments: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


def test_only_the_command_that_runs_is_imported() -> None:
    modules = {command.module for command in COMMANDS}
    assert not modules & imported_by("--help")
    assert modules & imported_by("info", "--help") == {"binhdan.runtime.cli.info"}
    assert not any(".bench" in name or ".server" in name for name in imported_by("quantize", "--help"))


@pytest.mark.parametrize("command", RUNTIME_COMMANDS, ids=lambda command: command.name)
def test_the_help_of_binhdan_agrees_with_that_of_the_command(command: Command) -> None:
    app: typer.Typer = importlib.import_module(command.module).app
    shown = " ".join(CliRunner().invoke(app, ["--help"]).stdout.split())
    assert f" {command.help.rstrip('.')}" in shown


def test_a_misspelled_command() -> None:
    done = subprocess.run([sys.executable, "-m", "binhdan", "inof"], capture_output=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.startswith(b"binhdan: No such command 'inof'. Did you mean 'info'?")


def test_without_arguments_it_shows_the_help() -> None:
    done = subprocess.run([sys.executable, "-m", "binhdan"], capture_output=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, b"") and b"Serve OpenAI's API over HTTP." in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ask", "--temperature", "-1"], r"temperature\b.*\b0.*-1"),  # the words are those of Typer's version
        (["ask", "--max-tokens", "abc"], r"max-tokens\b.*'?abc"),
        (["eval", "m.gguf", "--task", "foo"], "'foo' is not one of 'restore'"),
        (["eval", "nowhere.gguf"], "no such file: nowhere.gguf"),
        (["eval", "m.gguf", "--choices", "nowhere"], "nowhere: no such file; check the name"),
        (["calibrate", "nowhere.gguf"], "no such file: nowhere.gguf"),
    ],
)
def test_errors_say_what_came(arguments: list[str], message: str) -> None:
    done = subprocess.run([sys.executable, "-m", "binhdan", *arguments], capture_output=True, timeout=120)
    assert done.returncode in (1, 2)
    assert re.search(message, done.stderr.decode()) and done.stderr.count(b"\n") == 1, done.stderr
    assert b"Errno" not in done.stderr and b"Input should" not in done.stderr


def test_arguments_after_two_dashes_are_no_options() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "binhdan", "tokenize", "--json", "--", "--special"],
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0 and b'"--"' in done.stdout


def test_tables_ignore_the_width_of_the_terminal() -> None:
    shown = [
        subprocess.run(
            [sys.executable, "-m", "binhdan", "info"],
            capture_output=True,
            env=os.environ | {"COLUMNS": columns},
            timeout=120,
        ).stdout
        for columns in ("20", "500")
    ]
    assert shown[0] == shown[1] and b"\x1b" not in shown[0]
