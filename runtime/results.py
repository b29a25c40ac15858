"""The results of a model: answers, pieces of a streamed answer, and facts about the model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["text", "reasoning", "tool_call"]
# stop: an end token or a stop text; length: max_tokens is reached; context: the context is full;
# cancelled: by the caller; repetition: the answer repeated itself. These names are those of binhdan_finish.
# invalid: the answer violates a keyword of its JSON schema that no grammar can enforce; of the server only.
FinishReason = Literal["stop", "length", "context", "cancelled", "repetition", "invalid"]


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token and its natural log probability. Temperature does not affect it."""

    token: int
    text: str
    logprob: float
    top: tuple[TokenLogprob, ...] = ()  # the most likely tokens, best first, if requested


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A complete call of a function. Its result is {"role": "tool", "tool_call_id": id, "content": …}."""

    id: str
    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a streamed answer. `str(piece)` is its text; a piece of the kind "tool_call" has none."""

    text: str
    kind: Kind = "text"
    logprob: TokenLogprob | None = None
    tool_call: ToolCall | None = None
    tokens: tuple[int, ...] = ()  # of the answer since the last piece

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Timings:
    """Durations of a request in seconds."""

    queue: float  # from submit to the first computation
    prefill: float  # from the first computation to the first token
    decode: float  # from the first token to the last

    @property
    def ttft(self) -> float:
        """Time to first token (TTFT): from submit to the first token."""
        return self.queue + self.prefill


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer. `str(answer)` is its text."""

    text: str
    reasoning: str  # what a thinking model writes before the answer; else ""
    finish_reason: FinishReason
    prompt_tokens: int
    answer_tokens: int
    timings: Timings
    tokens: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] | None = None
    cached_tokens: int = 0  # tokens of the prompt that the prefix cache held
    reasoning_tokens: int = 0  # part of answer_tokens
    tool_calls: tuple[ToolCall, ...] = ()  # the complete ones, if the request had tools
    drafted_tokens: int = 0  # guessed from earlier text; see GenerationOptions.max_draft_tokens
    accepted_tokens: int = 0  # part of answer_tokens that were guessed
    # The stop text or stop token that ended the answer; None: an end token, or another finish reason.
    stopped_by: str | int | None = None

    def message(self) -> dict[str, Any]:
        """This answer as a message, for the next request of the conversation."""
        message: dict[str, Any] = {"role": "assistant", "content": self.text}
        if self.tool_calls:
            message["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {
                        "name": call.name,
                        "arguments": json.dumps(call.arguments, ensure_ascii=False),
                    },
                }
                for call in self.tool_calls
            ]
        return message

    @property
    def tokens_per_second(self) -> float:
        """Decode speed. 0 for an answer of fewer than two tokens, which has no interval to measure."""
        if self.answer_tokens < 2 or self.timings.decode <= 0:
            return 0.0
        return (self.answer_tokens - 1) / self.timings.decode

    def __str__(self) -> str:
        return self.text

    def _repr_markdown_(self) -> str:  # Jupyter shows it
        return self.text


@dataclass(frozen=True, slots=True)
class Decision:
    """The result of Model.choose. `str(decision)` is the most likely option."""

    option: str
    probabilities: dict[str, float]  # of each option; their sum is 1
    logprobs: dict[
        str, float
    ]  # of each option's text after the prompt, less that after the prior if there is one

    def __str__(self) -> str:
        return self.option


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Facts about a loaded model. Sizes are in bytes."""

    architecture: str
    isa: str  # the kernel table in use
    parameters: int
    file_bytes: int
    weight_bytes: int  # in memory, packed for the kernels
    bytes_per_token: int  # weights read to decode one token
    kv_bytes_per_token: int
    context: int  # tokens that the model was trained for
    vocabulary: int
    embedding: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    bos: int | None
    eos: int | None
    causal: bool  # False: an encoder, which embeds and generates no text
    pooling: Literal["mean", "cls", "last", "rank"]  # of embeddings; "rank": a reranker
    unknown: int | None
    padding: int | None
