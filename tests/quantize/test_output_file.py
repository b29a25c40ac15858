"""The output is whole or absent: full disks, targets that must not be replaced, killed processes."""

from __future__ import annotations

import errno
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from quantize_helpers import keys_of, write_sparse_checkpoint
from tiny_models import SMALL, write_checkpoint, write_gguf

from binhdan.quantize.convert import convert
from binhdan.quantize.output_file import partial_file
from binhdan.runtime.errors import FileReadError


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "in.gguf", SMALL)


def run(*arguments: str | Path, limit: int | None = None, space: bool = True) -> tuple[int, str]:
    """Runs the command; returns the exit code and stderr.

    `limit`: no file may become larger. `space` False: the system cannot reserve space.
    """
    unable = "" if space else "import os; del os.posix_fallocate; os.statvfs = None; "
    program = f"{unable}from binhdan.commands import main; main()"
    command = [sys.executable, "-c", program, "quantize"]
    done = subprocess.run(
        [*command, *arguments],
        capture_output=True,
        text=True,
        preexec_fn=(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))) if limit else None,
    )
    return done.returncode, done.stderr


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ---- targets -----------------------------------------------------------------------------------------------


def test_overwriting_requires_force(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    out.write_text("content")
    with pytest.raises(FileExistsError, match="--force"):
        convert(source, out, "q8_0")
    assert out.read_text() == "content"
    convert(source, out, "q8_0", force=True)
    assert keys_of(out)["general.architecture"] == "llama"


def link(target: str | Path) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Path.mkdir, "is a folder"),
        (os.mkfifo, "is a device or a pipe"),
        (link("/dev/null"), "is a symbolic link"),
        (link("nothing"), "is a symbolic link"),
        (link("in.gguf"), "is a symbolic link"),
        (link("/etc/hostname"), "is a symbolic link"),
        (lambda path: path.hardlink_to(path.with_name("in.gguf")), "is a file that is read"),
        (lambda path: path.touch(0o444), "is read-only"),
    ],
    ids=["folder", "pipe", "device link", "dangling link", "link", "outside link", "input", "read-only"],
)
def test_force_replaces_no_other_kind_of_file(
    make: Callable[[Path], None], message: str, source: Path, tmp_path: Path
) -> None:
    out, before = tmp_path / "out.gguf", source.read_bytes()
    make(out)
    kind = out.lstat()
    with pytest.raises(OSError, match=message):
        convert(source, out, "q8_0", force=True)
    assert (out.lstat().st_mode, out.lstat().st_ino) == (kind.st_mode, kind.st_ino)
    assert source.read_bytes() == before and names(tmp_path) == ["in.gguf", "out.gguf"]


def test_a_device_is_not_replaced(source: Path) -> None:
    with pytest.raises(FileExistsError, match="/dev/null is a device"):
        convert(source, Path("/dev/null"), "q8_0", force=True)


def test_a_missing_output_folder(source: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected an existing folder"):
        convert(source, tmp_path / "none" / "out.gguf", "q8_0")


def test_a_read_only_output_folder(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """root may write to any folder, so the system's answer is replaced."""
    real = os.open

    def fail(path: str | Path, flags: int, *mode: int) -> int:
        if str(path).endswith(".partial"):
            raise OSError(errno.EROFS, "Read-only file system")
        return real(path, flags, *mode)

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(FileReadError, match=f"^{tmp_path}: cannot write here: Read-only file system"):
        convert(source, tmp_path / "out.gguf", "q8_0")
    assert names(tmp_path) == ["in.gguf"]


# ---- space -------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small file system is not permitted")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_found_before_the_work(source: Path, small_disk: Path) -> None:
    out = small_disk / "out.gguf"
    out.write_bytes(b"old")
    code, errors = run(source, out, "--force")
    assert code == 1 and "of free space, got" in errors and errors.count("\n") == 1
    assert out.read_bytes() == b"old" and names(small_disk) == ["out.gguf"]


def test_a_disk_that_becomes_full_is_one_line(source: Path, small_disk: Path) -> None:
    code, errors = run(source, small_disk / "out.gguf", space=False)
    assert code == 1 and "No space left on device" in errors and errors.count("\n") == 1
    assert names(small_disk) == []


@pytest.mark.parametrize("space", [True, False])
def test_a_limit_of_the_file_size_is_one_line(space: bool, source: Path, tmp_path: Path) -> None:
    code, errors = run(source, tmp_path / "out.gguf", limit=20_000, space=space)
    assert code == 1 and "no space for out.gguf" in errors and errors.count("\n") == 1
    assert names(tmp_path) == ["in.gguf"]


# ---- interruptions -----------------------------------------------------------------------------------------


def test_an_interruption_leaves_no_file(source: Path, tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done > total / 2:
            assert len(names(tmp_path)) == 2  # the source and the partial file
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(source, tmp_path / "out.gguf", "q8_0", progress=interrupt)
    assert names(tmp_path) == ["in.gguf"]


def test_damage_between_writing_and_verifying_is_found(source: Path, tmp_path: Path) -> None:
    def damage(done: int, total: int) -> None:
        if done == total:
            (partial,) = tmp_path.glob(".*.partial")
            with partial.open("r+b") as file:
                file.seek(-1000, os.SEEK_END)
                file.write(b"\0" * 900)

    (tmp_path / "out.gguf").write_bytes(b"old")
    with pytest.raises(FileReadError, match="was read back with other bytes"):
        convert(source, tmp_path / "out.gguf", "q8_0", progress=damage, force=True)
    assert (tmp_path / "out.gguf").read_bytes() == b"old" and names(tmp_path) == ["in.gguf", "out.gguf"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_signal_during_conversion_leaves_no_output(number: signal.Signals, tmp_path: Path) -> None:
    checkpoint, out = write_sparse_checkpoint(tmp_path / "in", layers=64), tmp_path / "out.gguf"
    command = [sys.executable, "-m", "binhdan", "quantize", checkpoint, out, "--recipe", "q4_0"]
    process = subprocess.Popen(command)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".*.partial")):
        assert time.monotonic() < deadline
        assert process.poll() is None, "the process ended before the signal"
        time.sleep(0.005)
    process.send_signal(number)
    assert process.wait(timeout=60) != 0
    assert not out.exists()
    if number is not signal.SIGKILL:  # SIGKILL leaves the partial file to the next run
        assert names(tmp_path) == ["in"]


def test_the_next_run_removes_the_partial_files_of_killed_runs_only(source: Path, tmp_path: Path) -> None:
    stray = tmp_path / ".binhdan-quantize-0123456789ab.partial"
    stray.write_bytes(b"killed")
    other = tmp_path / ".other.partial"
    other.write_bytes(b"of another program")
    with partial_file(tmp_path / "running.gguf", 10) as (_, running):
        assert not stray.exists()
        convert(source, tmp_path / "out.gguf", "q8_0")
        assert running.exists()
    assert names(tmp_path) == [".other.partial", "in.gguf", "out.gguf", "running.gguf"]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_kill_at_random_moments_leaves_the_old_or_the_new_file(tmp_path: Path) -> None:
    checkpoint, out = write_checkpoint(tmp_path / "in", SMALL), tmp_path / "out.gguf"
    convert(checkpoint, out, "q4_k_m")
    new = out.read_bytes()
    old = b"old" * 10_000

    def child() -> int:
        pid = os.fork()
        if pid == 0:
            try:
                convert(checkpoint, out, "q4_k_m", force=True)
            finally:
                os._exit(0)
        return pid

    begin = time.monotonic()
    os.waitpid(child(), 0)
    whole = time.monotonic() - begin
    draw, killed = random.Random(0), 0
    for _ in range(20):
        out.write_bytes(old)
        pid = child()
        time.sleep(draw.uniform(0, whole))
        os.kill(pid, signal.SIGKILL)
        killed += os.WIFSIGNALED(os.waitpid(pid, 0)[1])
        assert out.read_bytes() in (old, new)
        assert set(names(tmp_path)) - {"in", "out.gguf"} <= {
            path.name for path in tmp_path.glob(".*.partial")
        }
    assert killed >= 5
    convert(checkpoint, out, "q4_k_m", force=True)
    assert out.read_bytes() == new and names(tmp_path) == ["in", "out.gguf"]


def test_the_permissions_are_those_of_a_new_file(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    mask = os.umask(0o027)
    try:
        convert(source, out, "q8_0")
    finally:
        os.umask(mask)
    assert out.stat().st_mode & 0o777 == 0o640
