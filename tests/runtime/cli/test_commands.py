"""runtime/cli/commands.py and binhdan/commands.py: the composition of the command line."""

from __future__ import annotations

import importlib
import os
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
