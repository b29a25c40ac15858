"""Values of the C library as Python types."""

from __future__ import annotations

import array
from dataclasses import dataclass
from typing import Literal

from binhdan.runtime.errors import BinhdanError
from binhdan.runtime.results import FinishReason

# The enumerators of binhdan.h in lower case, without their prefixes.
EventKind = Literal["token", "finished", "embedding", "scores", "logits"]
ChatFamily = Literal["auto", "plain", "chatml", "llama2", "llama3"]
ToneStyle = Literal["keep", "new", "old"]
Typing = Literal["none", "telex", "vni"]
TextFormat = Literal["text", "html", "markdown", "srt", "csv", "json", "po", "code"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreOptions:
    """As binhdan_restore_options."""

    style: ToneStyle = "keep"
    format: TextFormat = "text"
    min_confidence: float = 0.0
    typing: Typing = "none"
    fast: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    """A copy of binhdan_event."""

    kind: EventKind
    request: int
    text: str
    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]
    values: array.array[float]  # "f"
    finish: FinishReason | None  # of a "finished" event; None after an error
    error: BinhdanError | None  # why the request failed
    prompt_tokens: int
    answer_tokens: int
    queue_ns: int
    prefill_ns: int
    decode_ns: int
    cached_tokens: int
    drafted_tokens: int
    accepted_tokens: int
    stop_text: int  # of a "finished" event: the index of the stop text that ended the answer, or -1
