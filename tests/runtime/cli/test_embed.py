"""`binhdan embed`."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import binhdan

COMMAND = [sys.executable, "-m", "binhdan", "embed"]
TEXTS = ["Hà Nội là thủ đô", "xin chào", "Việt Nam"]


def run(*arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*COMMAND, *map(str, arguments)], input=stdin, capture_output=True, timeout=120)


def vectors_of(*arguments: str | Path, stdin: bytes = b"") -> list[list[float]]:
    """The embeddings on standard output."""
    done = run(*arguments, stdin=stdin)
    assert done.returncode == 0 and done.stderr == b"", done.stderr.decode()
    return parsed(done.stdout)


def parsed(lines: bytes) -> list[list[float]]:
    """The embeddings in JSON lines. Their digits identify a float32."""
    values = [json.loads(line) for line in lines.splitlines()]
    assert [value["index"] for value in values] == list(range(len(values)))
    return [np.array(value["embedding"], np.float32).tolist() for value in values]


def complaint(*arguments: str | Path, stdin: bytes = b"", code: int = 1) -> str:
    done = run(*arguments, stdin=stdin)
    line = done.stderr.decode()
    assert done.returncode == code and line.startswith("binhdan: ") and line.count("\n") == 1, line
    return line


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(TEXTS) + "\n", "utf-8")
    return path


def test_lines_of_a_file_and_of_standard_input(file: Path, model: binhdan.Model) -> None:
    assert vectors_of(file) == vectors_of("-", stdin=file.read_bytes()) == model.embed(TEXTS)
    assert vectors_of("-", stdin=b"\xef\xbb\xbfa\r\nb") == model.embed(["a", "b"])


def test_json_lines(tmp_path: Path, model: binhdan.Model) -> None:
    lines = "".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in enumerate(TEXTS))
    path = tmp_path / "texts.jsonl"
    path.write_text(lines, "utf-8")
    assert vectors_of(path) == vectors_of("-", "--jsonl", stdin=lines.encode()) == model.embed(TEXTS)


def test_options(file: Path, model: binhdan.Model) -> None:
    assert vectors_of(file, "--e5", "query") == model.embed(TEXTS, prefix="query: ")
    assert vectors_of(file, "--prefix", "passage: ") == vectors_of(file, "--e5", "passage")
    assert vectors_of(file, "--dimensions", "8") == model.embed(TEXTS, dimensions=8)
    assert vectors_of(file, "--no-normalize", "-m", model.path) == model.embed(TEXTS, normalize=False)
    long = ("Việt Nam " * 2000).encode()
    assert vectors_of("-", "--truncate", stdin=long) == [model.embed(long.decode(), truncate=True)]


def test_output_files(file: Path, tmp_path: Path, model: binhdan.Model) -> None:
    for name in ("out.npy", "out.jsonl"):
        out = tmp_path / name
        out.write_bytes(b"old")
        done = run(file, "-o", out)
        assert done.returncode == 0 and done.stdout == done.stderr == b""
    array = np.load(tmp_path / "out.npy")
    assert array.dtype == np.float32 and array.tolist() == model.embed(TEXTS)
    assert parsed((tmp_path / "out.jsonl").read_bytes()) == array.tolist()
    assert run("-", "-o", tmp_path / "none.npy", "--dimensions", "8").returncode == 0
    assert np.load(tmp_path / "none.npy").shape == (0, 8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"a\n\nb\n", "line 2: expected a text, got a blank line"),
        (b"a\nb\n\xff\n", "line 3: expected UTF-8, but byte 0 is not"),
        (b"a\n" + "Việt Nam ".encode() * 2000, "line 2: the text has"),
        (b"a\n" + b"x" * ((1 << 24) + 1), "line 2: expected at most 16 MiB"),
    ],
)
def test_a_bad_line_is_named_and_leaves_no_file(tmp_path: Path, text: bytes, message: str) -> None:
    out = tmp_path / "out.npy"
    assert f"standard input: {message}" in complaint("-", "-o", out, stdin=text)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("line", ["a", "[]", "{}", '{"text": 1}', '{"text": " "}', "[" * 100_000, '"a"'])
def test_bad_json_lines(line: str) -> None:
    assert "standard input: line 2: expected a JSON object" in complaint(
        "-", "--jsonl", stdin=f'{{"text": "a"}}\n{line}\n'.encode()
    )


def test_bad_arguments(file: Path, tmp_path: Path) -> None:
    assert "ends with .jsonl or .npy, got out.csv" in complaint(file, "-o", tmp_path / "out.csv", code=2)
    assert "expected --prefix or --e5" in complaint(file, "--prefix", "a", "--e5", "query", code=2)
    assert "no such file" in complaint(tmp_path / "absent.txt")
    assert "there is no folder" in complaint(file, "-o", tmp_path / "absent" / "out.npy")
    assert "dimensions: expected 0 to 256" in complaint(file, "--dimensions", "300")
    assert "no such file: absent.gguf" in complaint(file, "-m", "absent.gguf", "-o", tmp_path / "out.npy")
    assert sorted(path.name for path in tmp_path.iterdir()) == [file.name]


def test_progress_on_a_terminal(file: Path, tmp_path: Path) -> None:
    master, slave = pty.openpty()
    command = [*COMMAND, str(file), "-o", str(tmp_path / "out.npy")]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=slave, stderr=slave):
        os.close(slave)
        shown = b""
        while True:
            try:
                data = os.read(master, 65536)
            except OSError:  # the terminal is closed
                break
            if not data:
                break
            shown += data
    os.close(master)
    assert b"3 texts" in shown and b"3 embeddings in" in shown
