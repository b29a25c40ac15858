"""The command line without Typer, in a process of its own."""

import subprocess
import sys

import pytest

# Typer and what it brings are not installed, as far as the import system says.
BLOCKED = """
import importlib.abc, importlib.util, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"typer", "click", "rich", "prompt_toolkit", "huggingface_hub", "numpy"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
absent = {"typer", "huggingface_hub"}
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in absent else find(name, package)
from binhdan.__main__ import main
main()
"""


def plain(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "utf8", "-c", BLOCKED, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
    )


def test_the_command_of_the_readme_needs_no_extra() -> None:
    done = plain("ask", "them dau: ha noi la thu do cua viet nam")
    assert (done.returncode, done.stdout, done.stderr) == (0, "hà nội là thủ đô của việt nam\n", "")


def test_a_question_to_the_embedded_model() -> None:
    done = plain("ask", "-", stdin="Xin chào\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize("arguments", [("chat",), ("ask", "--temperature", "1", "xin chào"), ("serve",)])
def test_other_commands_and_options_name_the_extra(arguments: tuple[str, ...]) -> None:
    done = plain(*arguments)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "pip install 'binhdan[cli]'" in done.stderr


def test_errors_are_one_line() -> None:
    done = plain("ask", "-m", "no-such-file.gguf", "xin chào")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("binhdan: no such file: no-such-file.gguf; ")
    assert plain("ask").stderr == "binhdan: the prompt is empty\n"


def test_a_model_of_a_hub_names_the_extra() -> None:
    done = plain("ask", "-m", "org/name", "xin chào")
    assert done.returncode == 1
    assert "org/name: models of a hub need huggingface_hub: pip install 'binhdan[cli]'" in done.stderr


def test_version_and_help() -> None:
    assert plain("--version").stdout.startswith("binhdan 0.")
    done = plain()
    assert done.returncode == 0
    assert "ask" in done.stdout and "binhdan[cli]" in done.stdout
