"""binhdan: small Vietnamese language models on the machines that people already have.

>>> import binhdan
>>> with binhdan.load() as model:                       # the embedded model
...     print(model.ask("them dau: ha noi la thu do cua viet nam"))
hà nội là thủ đô của việt nam
>>> binhdan.restore("Ha Noi la thu do cua Viet Nam.")   # without a model
'Hà Nội là thủ đô của Việt Nam.'
"""

from binhdan.runtime.client.adapter import Adapter
from binhdan.runtime.client.base import Vocabulary
from binhdan.runtime.client.model import Model, load, load_vocabulary
from binhdan.runtime.client.restore import Choice, Restored, arestore, explain, restore
from binhdan.runtime.client.session import Session
from binhdan.runtime.client.spell import Misspelling, Spelling, aspell, spell
from binhdan.runtime.client.stream import AsyncStream, Stream
from binhdan.runtime.errors import (
    BadFormatError,
    BinhdanError,
    BusyError,
    ClosedError,
    FileReadError,
    IncompleteAnswerError,
    InternalError,
    InvalidArgumentError,
    ModelNotFoundError,
    OutOfMemoryError,
    TooLargeError,
    UnsupportedError,
)
from binhdan.runtime.options import GenerationOptions, LoadOptions
from binhdan.runtime.prompting.chat import Message
from binhdan.runtime.results import Answer, Decision, ModelInfo, Piece, Timings, TokenLogprob, ToolCall

__version__: str

__all__ = [
    "Adapter",
    "Answer",
    "AsyncStream",
    "BadFormatError",
    "BinhdanError",
    "BusyError",
    "Choice",
    "ClosedError",
    "Decision",
    "FileReadError",
    "GenerationOptions",
    "IncompleteAnswerError",
    "InternalError",
    "InvalidArgumentError",
    "LoadOptions",
    "Message",
    "Misspelling",
    "Model",
    "ModelInfo",
    "ModelNotFoundError",
    "OutOfMemoryError",
    "Piece",
    "Restored",
    "Session",
    "Spelling",
    "Stream",
    "Timings",
    "TokenLogprob",
    "TooLargeError",
    "ToolCall",
    "UnsupportedError",
    "Vocabulary",
    "__version__",
    "arestore",
    "aspell",
    "explain",
    "load",
    "load_vocabulary",
    "restore",
    "spell",
]


def __getattr__(name: str) -> str:
    if name != "__version__":
        raise AttributeError(f"module 'binhdan' has no attribute {name!r}")
    from importlib.metadata import version  # slow to import

    return version("binhdan")
