"""binhdan: small Vietnamese language models on the machines people already have.

>>> import binhdan
>>> with binhdan.load() as model:                       # the embedded model
...     print(model.ask("them dau: ha noi la thu do cua viet nam"))
hà nội là thủ đô của việt nam
"""

from binhdan.runtime.chat import Message
from binhdan.runtime.errors import (
    BadFormatError,
    BinhdanError,
    BusyError,
    ClosedError,
    FileReadError,
    InternalError,
    InvalidArgumentError,
    ModelNotFoundError,
    OutOfMemoryError,
    TooLargeError,
    UnsupportedError,
)
from binhdan.runtime.model import Model, load
from binhdan.runtime.options import GenerationOptions, LoadOptions
from binhdan.runtime.results import Answer, ModelInfo, Piece, Timings, TokenLogprob
from binhdan.runtime.stream import AsyncStream, Stream
from binhdan.runtime.version import version

__version__: str = version()

__all__ = [
    "Answer",
    "AsyncStream",
    "BadFormatError",
    "BinhdanError",
    "BusyError",
    "ClosedError",
    "FileReadError",
    "GenerationOptions",
    "InternalError",
    "InvalidArgumentError",
    "LoadOptions",
    "Message",
    "Model",
    "ModelInfo",
    "ModelNotFoundError",
    "OutOfMemoryError",
    "Piece",
    "Stream",
    "Timings",
    "TokenLogprob",
    "TooLargeError",
    "UnsupportedError",
    "__version__",
    "load",
]
