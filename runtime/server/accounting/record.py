"""What is known of one answer when it has ended: the bill, the metrics and the log are made from it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AnswerRecord:
    """One answer. Times in seconds; no text, since records are logged and stored."""

    request_id: str
    route: str  # "/v1/chat/completions"
    model: str  # the name that the operator gave it
    key: str  # the name of the API key, never the key; "" without keys
    finish_reason: str  # stop, length, context, cancelled, error
    prompt_tokens: int
    cached_tokens: int  # of the prompt
    answer_tokens: int
    queue: float  # from submitting to the first computation
    prompt: float  # from there to the first token
    decode: float  # from the first token to the last
    total: float  # from the request's arrival to the last byte

    @property
    def first_token(self) -> float:
        """From submitting to the first token."""
        return self.queue + self.prompt
