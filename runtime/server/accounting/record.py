"""The record of a finished answer. The bill, the metrics and the log are made from it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AnswerRecord:
    """One finished answer. Times are in seconds. It holds no text, because records are logged and stored."""

    request_id: str
    route: str  # "/v1/chat/completions"
    model: str  # the name in the server's configuration
    key: str  # the name of the API key, never the key itself; "" without keys
    finish_reason: str  # a FinishReason of runtime/results.py
    prompt_tokens: int
    cached_tokens: int  # tokens of the prompt that the prefix cache held
    answer_tokens: int
    queue: float  # from submit to the first computation
    prefill: float  # from the first computation to the first token
    decode: float  # from the first token to the last
    total: float  # from the arrival of the request to the last byte of the response

    @property
    def ttft(self) -> float:
        """Time to first token: from submit to the first token."""
        return self.queue + self.prefill
