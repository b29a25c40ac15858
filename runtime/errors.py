"""What can go wrong. Every error is a BinhdanError; `code` is the pinned number of binhdan.h."""

from typing import ClassVar


class BinhdanError(Exception):
    """Base of all errors of this package. The message says what was expected, what came, and where."""

    code: ClassVar[int] = 11


class InvalidArgumentError(BinhdanError, ValueError):
    """A value that is out of range or has the wrong form. `param`: the field of a request that holds it."""

    code = 1

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class ModelNotFoundError(BinhdanError, FileNotFoundError):
    """No such file, and nothing under that name in the local hub cache."""

    code = 3


class FileReadError(BinhdanError, OSError):
    """The operating system would not read or write a file, or the network failed."""

    code = 4


class BadFormatError(BinhdanError, ValueError):
    """The model file is damaged or is not one."""

    code = 5


class UnsupportedError(BinhdanError):
    """An architecture, tensor type, tokenizer or instruction set that this build or processor lacks."""

    code = 6


class OutOfMemoryError(BinhdanError, MemoryError):
    """The memory that was asked for is not there."""

    code = 7


class TooLargeError(BinhdanError, ValueError):
    """More tokens than the context holds."""

    code = 8


class BusyError(BinhdanError):
    """More requests wait than the limit allows; try again later."""

    code = 9


class ClosedError(BinhdanError):
    """The model was closed, or was loaded before a fork and is used in the child."""

    code = 10


class InternalError(BinhdanError):
    """A fault of the library itself."""

    code = 11


_INVALID_HANDLE = 2
_CLASSES: tuple[type[BinhdanError], ...] = (
    InvalidArgumentError,
    ModelNotFoundError,
    FileReadError,
    BadFormatError,
    UnsupportedError,
    OutOfMemoryError,
    TooLargeError,
    BusyError,
    ClosedError,
    InternalError,
)
_BY_CODE = {cls.code: cls for cls in _CLASSES} | {_INVALID_HANDLE: ClosedError}


def from_status(status: int, message: str) -> BinhdanError:
    """The exception for a binhdan_status other than BINHDAN_OK."""
    return _BY_CODE.get(status, InternalError)(message or f"the library failed with status {status}")
