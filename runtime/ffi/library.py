"""The library with all its functions."""

from __future__ import annotations

import atexit
import logging
import sys
from functools import cache
from pathlib import Path
from typing import Any

from binhdan.runtime.errors import UnsupportedError
from binhdan.runtime.ffi.engine import EngineFunctions
from binhdan.runtime.ffi.model import ModelFunctions
from binhdan.runtime.ffi.text import TextFunctions
from binhdan.runtime.files import package_file

_log = logging.getLogger("binhdan")
_LEVELS = {0: logging.DEBUG, 1: logging.INFO, 2: logging.WARNING}  # of binhdan_log_sink


class Library(ModelFunctions, EngineFunctions, TextFunctions):
    def __init__(self, header: Path, binary: Path) -> None:
        super().__init__(header, binary)
        self._start_logging()

    def version(self) -> str:
        return self._string(self._lib.binhdan_version())

    def isas(self) -> list[str]:
        """Kernel tables of this build, the fastest last."""
        return self._string(self._lib.binhdan_isas()).split()

    def cpu_name(self) -> str:
        """The processor's name; "" when unknown."""
        return self._string(self._lib.binhdan_cpu_name())

    def usable_cores(self) -> int:
        """Cores that this process may use."""
        return int(self._lib.binhdan_usable_cores())

    def measure_bandwidth(self, threads: int) -> float:
        """Memory bandwidth in bytes per second of `threads` threads together; takes about half a second."""
        out = self._ffi.new("double *")
        self._check(self._lib.binhdan_measure_bandwidth(threads, out))
        return float(out[0])

    def _start_logging(self) -> None:
        sink = self._ffi.callback("binhdan_log_sink", self._log)
        self._lib.binhdan_set_log_sink(sink, self._ffi.NULL)
        self._sink = sink  # must live as long as the library calls it
        # A thread of the library must not call Python while the interpreter ends.
        atexit.register(self._lib.binhdan_set_log_sink, self._ffi.NULL, self._ffi.NULL)

    def _log(self, _: Any, level: int, message: Any) -> None:
        """The library's log sink."""
        _log.log(_LEVELS.get(level, logging.WARNING), "%s", self._string(message))


_LIBRARY_NAMES = {"darwin": "libbinhdan.dylib", "win32": "libbinhdan.dll"}


@cache
def library() -> Library:
    """The installed library, opened once. Raises UnsupportedError when it is missing or cannot be loaded."""
    name = _LIBRARY_NAMES.get(sys.platform, "libbinhdan.so")
    binary, header = package_file(f"lib/{name}"), package_file("include/binhdan.h")
    if binary is None or header is None:
        searched = ", ".join(str(Path(folder) / "lib") for folder in sys.modules["binhdan"].__path__)
        raise UnsupportedError(f"found no {name} in {searched}; install the package again: pip install .")
    try:
        return Library(header, binary)
    except OSError as error:
        raise UnsupportedError(f"cannot load {binary}: {error}") from error
