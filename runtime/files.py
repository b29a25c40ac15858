"""Files of the package as files of the system, also if the package is in a zip archive (zipapp)."""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path
from zipimport import zipimporter

from binhdan.runtime.errors import FileReadError


@cache
def package_file(name: str) -> Path | None:
    """The file `name` ("lib/libbinhdan.so") of the package binhdan; None if there is none.

    A file of an archive is extracted once, to XDG_CACHE_HOME (~/.cache), or for one process if that is not
    writable. Raises FileReadError if no folder is writable.
    """
    package = sys.modules["binhdan"]
    for folder in package.__path__:  # an editable install spreads the package over two folders
        path = Path(folder) / name
        if path.exists():
            return path
    loader = package.__spec__.loader if package.__spec__ else None
    if not isinstance(loader, zipimporter):
        return None
    try:
        data = loader.get_data(os.path.join(loader.archive, "binhdan", *name.split("/")))
    except OSError:
        return None
    return _extract(data, Path(name).name)


def _extract(data: bytes, name: str) -> Path:
    """Writes `data` to a folder that its content names, unless the file is there."""
    cache_home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(cache_home) / "binhdan" / hashlib.sha256(data).hexdigest()
    path = folder / name
    try:
        if path.is_file() and path.read_bytes() == data:
            return path
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as out:
            out.write(data)
        os.replace(out.name, path)  # no process sees a part of the file
        return path
    except OSError:
        return _extract_for_this_process(data, name)


def _extract_for_this_process(data: bytes, name: str) -> Path:
    try:
        folder = Path(tempfile.mkdtemp(prefix="binhdan-"))
        (folder / name).write_bytes(data)
    except OSError as error:
        raise FileReadError(
            f"cannot extract {name}: {error}; set XDG_CACHE_HOME to a writable folder"
        ) from error
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder / name
