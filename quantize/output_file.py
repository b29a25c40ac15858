"""Writes a file that is complete or absent: beside its name first, then renamed.

A killed process leaves a partial file. Its lock ends with the process, so the next run removes the file.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from binhdan.runtime.errors import FileReadError

try:
    import fcntl
except ImportError:  # Windows: an open file cannot be removed, which serves as the lock
    fcntl = None  # type: ignore[assignment]

_PREFIX: Final = ".binhdan-quantize-"
_SUFFIX: Final = ".partial"
_WORK_SUFFIX: Final = ".work"
_LOCK: Final = "lock"
_NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NOT_SUPPORTED: Final = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)


def check_output(output: Path, *, force: bool, inputs: Iterable[Path] = ()) -> None:
    """Raises OSError if ``output`` cannot be written or must not be replaced. Changes nothing."""
    folder = output.absolute().parent
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: expected an existing folder for {output.name}")
    try:
        mode = output.lstat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISLNK(mode):
        raise FileExistsError(f"{output} is a symbolic link, and links are not replaced; use its target")
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(f"{output} is a folder; expected the name of a file")
    if not stat.S_ISREG(mode):
        raise FileExistsError(f"{output} is a device or a pipe; expected the name of a file")
    for source in inputs:
        if source.exists() and output.samefile(source):
            raise FileExistsError(f"{output} is a file that is read; expected another name for the output")
    if not force:
        raise FileExistsError(f"{output} exists; use --force to overwrite it")
    if not mode & 0o222 or not os.access(output, os.W_OK):
        raise PermissionError(f"{output} is read-only; make it writable or use another name")


@contextmanager
def partial_file(output: Path, size: int) -> Iterator[tuple[BinaryIO, Path]]:
    """Yields a new file of ``size`` bytes and its path; renames it to ``output`` at the end.

    The file is removed on an error. Removes partial files of killed processes first. Raises FileReadError if
    the folder is not writable or the space is not sufficient, before the caller writes anything.
    """
    folder = output.absolute().parent
    _remove_partial_files(folder)
    file, path = _create(folder)
    with file:
        try:
            with _space_errors(output, size):
                _reserve(file, folder, size)
                yield file, path
                file.flush()
                os.fsync(file.fileno())
            if os.name == "nt":
                file.close()
            path.replace(output)
        except BaseException:
            if os.name == "nt":
                file.close()
            path.unlink(missing_ok=True)
            raise
    _sync_folder(folder)


def _create(folder: Path) -> tuple[BinaryIO, Path]:
    """Creates a partial file and locks it."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    while True:
        path = folder / f"{_PREFIX}{secrets.token_hex(6)}{_SUFFIX}"
        try:
            file = os.fdopen(os.open(path, flags, 0o666), "r+b")
        except OSError as error:
            raise FileReadError(
                f"{folder}: cannot write here: {error.strerror}; use another folder"
            ) from None
        if fcntl is not None:
            with suppress(OSError):  # a file system without locks: no other process can lock the file either
                fcntl.flock(file, fcntl.LOCK_EX)
        if os.name == "nt" or os.fstat(file.fileno()).st_nlink:
            return file, path
        file.close()  # another process has removed it before it was locked


@contextmanager
def _space_errors(output: Path, size: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        raise FileReadError(
            f"{output.absolute().parent}: no space for {output.name} of {size:,} bytes ({error.strerror});"
            " free some space or use another folder"
        ) from None


def _reserve(file: BinaryIO, folder: Path, size: int) -> None:
    """Allocates the blocks of the file, so that a full disk is found before the work."""
    statvfs = getattr(os, "statvfs", None)
    if statvfs is not None:
        state = statvfs(folder)
        free = state.f_bavail * state.f_frsize
        if free < size:
            raise FileReadError(
                f"{folder}: expected {size:,} bytes of free space, got {free:,};"
                " free some space or use another folder"
            )
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno not in _NOT_SUPPORTED:
                raise
    else:
        file.truncate(size)


# ---- partial files of killed processes ---------------------------------------------------------------------


def _remove_partial_files(folder: Path) -> None:
    """Removes the partial files in ``folder`` that no process has locked."""
    for path in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
        if path.is_symlink() or not path.is_file():
            continue
        with suppress(OSError), path.open("rb") as file:  # locked, or removed meanwhile
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
        if fcntl is None:
            with suppress(OSError):  # open
                path.unlink()


@contextmanager
def work_folder(parent: Path) -> Iterator[Path]:
    """Yields a new folder in ``parent`` for files of a long work; removes it at the end.

    Removes folders of killed processes first. Raises FileReadError if ``parent`` is not writable.
    """
    for folder in parent.glob(f"{_PREFIX}*{_WORK_SUFFIX}"):
        if not folder.is_symlink() and _is_abandoned(folder / _LOCK):
            shutil.rmtree(folder, ignore_errors=True)
    folder = parent / f"{_PREFIX}{secrets.token_hex(6)}{_WORK_SUFFIX}"
    try:
        folder.mkdir()
        lock = (folder / _LOCK).open("wb")
    except OSError as error:
        raise FileReadError(f"{parent}: cannot write here: {error.strerror}; use another folder") from None
    try:
        with lock:
            if fcntl is not None:
                with suppress(OSError):
                    fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_abandoned(lock: Path) -> bool:
    """Whether no process has locked the file. Windows: an open file cannot be removed."""
    try:
        if fcntl is None:
            lock.unlink()
            return True
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:
        return False


def _sync_folder(folder: Path) -> None:
    """Makes the new name durable, where the system can."""
    if os.name == "nt":
        return
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
