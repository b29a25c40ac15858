"""A model file that changes while it is mapped causes an error, never a crash. Tests use child processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from api.abi import MODEL

START = """
import os, sys, threading, time
from pathlib import Path
from api.abi import *
path = Path(sys.argv[1])
size = path.stat().st_size
"""

OPEN_ALREADY = """
model = open_model(path)
engine = create_engine(model)
running = Running(model, engine, create_queue(engine))
tokens = prompt(running.model)
os.truncate(path, int(sys.argv[2]))
needed = ffi.new("size_t *")
text = ffi.new("char[]", 1 << 16)
for key in [b"general.architecture", b"tokenizer.ggml.model", b"general.name"]:
    status = lib.binhdan_model_metadata(running.model, key, text, 1 << 16, needed)
    assert status in (lib.BINHDAN_OK, lib.BINHDAN_NOT_FOUND, lib.BINHDAN_IO), (status, last_error())
    assert status != lib.BINHDAN_OK or text[0] != b"\\0", "expected metadata or BINHDAN_IO, got zeros"
assert prompt(running.model) != ffi.NULL
running.submit(tokens)
events = list(events_of(running.queue))
text = "".join(event.text for event in events)
assert text == ANSWER or events[-1].finish == lib.BINHDAN_FINISH_ERROR, text
out = ffi.new("uint64_t *")
status = lib.binhdan_model_open(str(path).encode(), ffi.NULL, out)
assert status in (lib.BINHDAN_IO, lib.BINHDAN_BAD_FORMAT), status
running.close()
"""

WHILE_OPENING = """
whole = path.read_bytes()
for round in range(12):
    path.write_bytes(whole)
    def truncate():
        time.sleep(0.004 * round)
        os.truncate(path, size // 3)
    thread = threading.Thread(target=truncate)
    thread.start()
    out = ffi.new("uint64_t *")
    status = lib.binhdan_model_open(str(path).encode(), ffi.NULL, out)
    thread.join()
    assert status in (lib.BINHDAN_OK, lib.BINHDAN_IO, lib.BINHDAN_BAD_FORMAT), (status, last_error())
    if status == lib.BINHDAN_OK:  # the whole file was read before the truncation
        running = Running(out[0], create_engine(out[0]), 0)
        running.queue = create_queue(running.engine)
        running.submit()
        assert answer(running.queue) == ANSWER
        running.close()
"""


def run(code: str, *arguments: object) -> None:
    code = START + code
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def model_copy(tmp_path: Path) -> Path:
    return Path(shutil.copy(MODEL, tmp_path / "model.gguf"))


@pytest.mark.parametrize("size", [0, 4096, 1_000_000])
def test_truncated_while_open(model_copy: Path, size: int) -> None:
    run(OPEN_ALREADY, model_copy, size)


def test_truncated_while_opening(model_copy: Path) -> None:
    run(WHILE_OPENING, model_copy)


def test_removed_while_open(model_copy: Path) -> None:
    run(
        """
model = open_model(path)
path.unlink()
engine = create_engine(model)
queue = create_queue(engine)
submit(engine, queue, prompt(model))
assert answer(queue) == ANSWER
""",
        model_copy,
    )
