"""What a model gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "reasoning"]
# stop: an end token or a stop text; length: max_tokens; context: the context is full; cancelled: by the
# caller.
FinishReason = Literal["stop", "length", "context", "cancelled"]


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token and its natural log probability before temperature."""

    token: int
    text: str
    logprob: float
    top: tuple[TokenLogprob, ...] = ()  # the likeliest tokens, best first, when asked for


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of an answer as it streams; `str(piece)` is its text."""

    text: str
    kind: Kind = "text"
    logprob: TokenLogprob | None = None

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds that a request took."""

    queue: float  # from submitting to the first computation
    prefill: float  # from there to the first token
    decode: float  # from the first token to the last

    @property
    def ttft(self) -> float:
        """Seconds from submitting to the first token."""
        return self.queue + self.prefill


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer; `str(answer)` is its text."""

    text: str
    reasoning: str  # what a thinking model said to itself before; "" otherwise
    finish_reason: FinishReason
    prompt_tokens: int
    answer_tokens: int
    timings: Timings
    tokens: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] | None = None
    cached_tokens: int = 0  # of the prompt, that were known from an earlier one
    reasoning_tokens: int = 0  # of the answer's

    @property
    def tokens_per_second(self) -> float:
        """Decoding speed; 0 for an answer of fewer than two tokens, which has none."""
        if self.answer_tokens < 2 or self.timings.decode <= 0:
            return 0.0
        return (self.answer_tokens - 1) / self.timings.decode

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Facts about a loaded model; sizes in bytes."""

    architecture: str
    isa: str  # the kernel table that computes
    parameters: int
    file_bytes: int
    weight_bytes: int  # as held for computing
    bytes_per_token: int  # weights read to decode one token
    kv_bytes_per_token: int
    context: int  # tokens that the model was made for
    vocabulary: int
    embedding: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    bos: int | None
    eos: int | None
