"""The READMEs: their Python examples run, their commands and options exist, their links resolve."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from binhdan.commands import main

ROOT = Path(__file__).parents[2]
READMES = ["README.md", "README.vi.md"]
FENCE = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)


def blocks(readme: str, language: str) -> list[str]:
    text = (ROOT / readme).read_text(encoding="utf-8")
    return [code for found, code in FENCE.findall(text) if found == language]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("readme", READMES)
def test_python_runs(readme: str) -> None:
    (code,) = blocks(readme, "python")
    done = run("-c", code)
    assert done.returncode == 0, done.stderr
    assert "hà nội là thủ đô của việt nam" in done.stdout


@pytest.mark.parametrize("readme", READMES)
def test_the_two_commands_and_the_first_answer(readme: str) -> None:
    text = (ROOT / readme).read_text(encoding="utf-8")
    assert "pip install '.[test]' && pytest" in text
    ask = re.search(r"pip install \. && binhdan ask \"([^\"]+)\"", text)
    answer = re.search(r"`(hà nội[^`]*)`", text)
    assert ask and answer
    done = run("-m", "binhdan", "ask", ask[1])
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == answer[1]


LOAD = "load (?:run|compare|overhead|prefix|soak)"
NAME = "[a-z]+(?:-[a-z]+)*"
COMMAND = re.compile(rf"(?:^|`|&& )binhdan ((?:bench )?(?:{LOAD}\b|{NAME}))((?: [^`\n|]*)?)", re.MULTILINE)
BENCH = {"bench peers", "bench profile"}
RESULTS = ["run", "report", "compare", "history"]
SUITE = {"bench", *(f"bench {name}" for name in [*RESULTS, "aa", "ab", "gate", "hot-paths", "plan"])}
NAMED = dict.fromkeys(
    READMES,
    {"ask", "chat", "embed", "serve", "info", "pull", "quantize", "bench speed", "bench kernels"} | BENCH,
)


@pytest.mark.parametrize(
    ("readme", "named"),
    [*NAMED.items(), ("docs/performance.md", BENCH), ("docs/benchmarking.md", SUITE)],
)
def test_commands_and_options_exist(
    readme: str, named: set[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / readme).read_text(encoding="utf-8")
    commands = re.findall(COMMAND, text)
    assert {command for command, _ in commands} >= named
    for command in sorted({command for command, _ in commands}):
        monkeypatch.setattr(sys, "argv", ["binhdan", *command.split(), "--help"])
        with pytest.raises(SystemExit) as ended:
            main()
        help_text = capsys.readouterr().out
        assert ended.value.code == 0, f"{readme}: binhdan {command}: {help_text}"
        for rest in (rest for name, rest in commands if name == command):
            for option in re.findall(r"(?<!\S)(--?[a-z][a-z-]*)", rest.split("#")[0]):
                assert option in help_text, f"{readme}: binhdan {command} has no {option}"


@pytest.mark.parametrize(
    "document", [*READMES, "CONTRIBUTING.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
)
def test_links_resolve(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (ROOT / document).parent.joinpath(target).exists(), f"{document}: {target}"
