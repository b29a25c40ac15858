"""examples/embed_c/: the commands of its README build it against the installed package, and it answers."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import binhdan
from binhdan.runtime.client.model import embedded_model

SOURCE = Path(__file__).parents[2] / "examples" / "embed_c"
QUESTION = "them dau: ha noi la thu do cua viet nam"
ANSWER = "hà nội là thủ đô của việt nam\n"
STRICT = ["-Wall", "-Wextra", "-pedantic", "-Werror"]


def installed() -> Path:
    """Returns the folder with lib/ and include/; an editable install has two package folders."""
    return next(folder for folder in map(Path, binhdan.__path__) if (folder / "include").is_dir())


def need(*programs: str) -> str:
    """Returns the path of the first installed program; skips the test if there is none."""
    for program in programs:
        if found := shutil.which(program):
            return found
    pytest.skip(f"requires one of {', '.join(programs)}")


def run(*command: object, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=120,
    )


def readme_commands() -> list[str]:
    return re.findall(r"```\n(.*?)```", (SOURCE / "README.md").read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def model_file() -> Path:
    return embedded_model()


@pytest.fixture(scope="module")
def embed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, built without pkg-config and CMake."""
    program = tmp_path_factory.mktemp("embed") / "embed"
    package = installed()
    built = run(
        *(need("cc", "gcc", "clang"), "-std=c99", *STRICT, SOURCE / "embed.c", "-o", program),
        *(f"-I{package}/include", f"-L{package}/lib", "-lbinhdan", f"-Wl,-rpath,{package}/lib"),
    )
    assert built.returncode == 0, built.stderr
    return program


def test_the_example_is_short() -> None:
    assert len((SOURCE / "embed.c").read_text(encoding="utf-8").splitlines()) < 120


def test_the_example_answers(embed: Path, model_file: Path) -> None:
    done = run(embed, model_file, QUESTION)
    assert (done.returncode, done.stdout) == (0, ANSWER), done.stderr
    assert re.fullmatch(
        r"\[\d+ prompt tokens, first token after \d+ ms; \d+ answer tokens, \d+\.\d per second\]\n",
        done.stderr,
    )


def test_errors_take_one_line(embed: Path, model_file: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.gguf"
    text.write_text("Đây là văn bản, không phải mô hình.")
    for arguments, message in [
        ((tmp_path / "missing.gguf", "?"), r"embed: open: .*missing\.gguf.* \(NOT_FOUND\)\n"),
        ((text, "?"), r"embed: open: .*text\.gguf.* \(BAD_FORMAT\)\n"),
        ((model_file, "dài " * 4000), r"embed: submit: .* \(TOO_LARGE\)\n"),
    ]:
        done = run(embed, *arguments)
        assert (done.returncode, done.stdout) == (1, "")
        assert re.fullmatch(message, done.stderr), done.stderr
    assert run(embed).returncode == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="requires /dev/full")
def test_a_full_disk_is_an_error(embed: Path, model_file: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([embed, model_file, QUESTION], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and done.stderr.startswith("embed: write: ")


@pytest.mark.parametrize(("block", "tools"), [(0, ("pkg-config", "cc")), (1, ("cmake", "cc"))])
def test_readme_commands(block: int, tools: tuple[str, str], model_file: Path, tmp_path: Path) -> None:
    for tool in tools:
        need(tool)
    if installed() != Path(binhdan.__path__[0]):
        pytest.skip("the commands of the README require a regular install, not an editable one")
    folder = shutil.copytree(SOURCE, tmp_path / "embed_c")
    setup = readme_commands()[0].splitlines()[0]
    built = run("bash", "-euc", f"{setup}\n{readme_commands()[block]}", folder=folder)
    assert built.returncode == 0, built.stdout + built.stderr
    program = next(path for path in [folder / "embed", folder / "build" / "embed"] if path.exists())
    assert run(program, model_file, QUESTION).stdout == ANSWER


@pytest.mark.parametrize("language", ["c99", "c11", "c++11", "c++20"])
def test_the_header_is_self_contained(language: str, tmp_path: Path) -> None:
    source = tmp_path / ("main.cpp" if "++" in language else "main.c")
    source.write_text("#include <binhdan.h>\nint main(void) { return (int)sizeof(binhdan_request) == 0; }\n")
    compiler = need("c++", "g++", "clang++") if "++" in language else need("cc", "gcc", "clang")
    done = run(compiler, f"-std={language}", *STRICT, "-fsyntax-only", f"-I{installed()}/include", source)
    assert done.returncode == 0, done.stderr
