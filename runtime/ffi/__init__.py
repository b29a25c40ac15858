"""The C library as Python functions. Only this package and binhdan._native import cffi and handle C memory.

cffi parses the installed binhdan.h: types, functions and the values of enums come from the header, and Python
can do what every other caller of the C ABI can do. Functions raise the exceptions of errors.py.
"""

from binhdan.runtime.ffi.binding import declarations
from binhdan.runtime.ffi.library import Library, library
from binhdan.runtime.ffi.types import (
    ChatFamily,
    Event,
    EventKind,
    RestoreOptions,
    TextFormat,
    ToneStyle,
    Typing,
)

__all__ = [
    "ChatFamily",
    "Event",
    "EventKind",
    "Library",
    "RestoreOptions",
    "TextFormat",
    "ToneStyle",
    "Typing",
    "declarations",
    "library",
]
