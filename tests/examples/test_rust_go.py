"""examples/rust/ and examples/go/: they build against the installed package, and answer."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import binhdan
from binhdan.runtime.client.model import embedded_model

EXAMPLES = Path(__file__).parents[2] / "examples"
QUESTION = "them dau: ha noi la thu do cua viet nam"
ANSWER = "hà nội là thủ đô của việt nam\n"

pytestmark = pytest.mark.slow  # compiles


def package() -> Path:
    """The folder with lib/ and include/; an editable install has two package folders."""
    return next(folder for folder in map(Path, binhdan.__path__) if (folder / "include").is_dir())


def build(language: str, folder: Path) -> Path:
    """The program, compiled in `folder`. Skips the test without a compiler."""
    at, program = package(), folder / "embed"
    variables = {
        "BINHDAN_DIR": str(at),
        "CGO_CFLAGS": f"-I{at}/include",
        "CGO_LDFLAGS": f"-L{at}/lib -Wl,-rpath,{at}/lib",
    }
    if language == "rust":
        tool, debian, arguments = "cargo", "cargo", ["build", "--offline", "--target-dir", str(folder)]
        program = folder / "debug" / "embed"
    else:
        tool, debian, arguments = "go", "golang-go", ["build", "-o", str(program), "."]
    if not shutil.which(tool):
        pytest.skip(f"no {tool}: apt-get install {debian}")
    source = shutil.copytree(EXAMPLES / language, folder / "source")
    done = subprocess.run(
        [tool, *arguments],
        cwd=source,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return program


@pytest.mark.parametrize("language", ["rust", "go"])
def test_the_example_answers(language: str, tmp_path: Path) -> None:
    program = build(language, tmp_path)
    done = subprocess.run([program, embedded_model(), QUESTION], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, ANSWER), done.stderr
    done = subprocess.run([program, tmp_path / "missing", "?"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "missing" in done.stderr and done.stdout == ""


@pytest.mark.parametrize("file", ["rust/src/main.rs", "go/main.go"])
def test_the_example_is_short(file: str) -> None:
    assert len((EXAMPLES / file).read_text(encoding="utf-8").splitlines()) < 120
