"""The exceptions of this package. `code` is the value of binhdan_status in binhdan.h, which never changes."""

from typing import ClassVar


class BinhdanError(Exception):
    """Base class. The message states what was expected, what came, where, and what to do."""

    code: ClassVar[int] = 11


class InvalidArgumentError(BinhdanError, ValueError):
    """A value is out of range or has the wrong form. `param` names the field of the request."""

    code = 1

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class ModelNotFoundError(BinhdanError, FileNotFoundError):
    """The file does not exist, or the local hub cache does not contain the model."""

    code = 3


class FileReadError(BinhdanError, OSError):
    """The operating system could not read or write a file, or the network failed."""

    code = 4


class BadFormatError(BinhdanError, ValueError):
    """The file is damaged or is not a model file."""

    code = 5


class UnsupportedError(BinhdanError):
    """This build or processor does not support an architecture, tensor type, tokenizer or instruction set."""

    code = 6


class OutOfMemoryError(BinhdanError, MemoryError):
    """The process could not allocate the memory."""

    code = 7


class TooLargeError(BinhdanError, ValueError):
    """The prompt has more tokens than the context holds."""

    code = 8


class IncompleteAnswerError(TooLargeError):
    """The answer ended before it had the required form: at max_tokens, or at the end of the context."""


class BusyError(BinhdanError):
    """The queue of waiting requests is full. Try again later."""

    code = 9


class ClosedError(BinhdanError):
    """The model is closed, or was loaded before a fork and is used in the child process."""

    code = 10


class InternalError(BinhdanError):
    """A bug in the library."""

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
    """The exception for a value of binhdan_status other than BINHDAN_OK."""
    return _BY_CODE.get(status, InternalError)(message or f"the library failed with status {status}")
