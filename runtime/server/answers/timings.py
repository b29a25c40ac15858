"""llama.cpp's `timings` of an answer."""

from __future__ import annotations

from typing import Any

from binhdan.runtime.results import Answer


def timings(answer: Answer) -> dict[str, Any]:
    """Tokens, milliseconds and speeds of the prompt and of the answer. The first token belongs to the
    prompt's time."""
    read, written = answer.prompt_tokens - answer.cached_tokens, max(answer.answer_tokens - 1, 0)
    prefill, decode = answer.timings.prefill, answer.timings.decode
    return {
        "cache_n": answer.cached_tokens,
        "prompt_n": read,
        "prompt_ms": prefill * 1e3,
        "prompt_per_token_ms": prefill * 1e3 / max(read, 1),
        "prompt_per_second": read / prefill if prefill > 0 else 0.0,
        "predicted_n": answer.answer_tokens,
        "predicted_ms": decode * 1e3,
        "predicted_per_token_ms": decode * 1e3 / max(written, 1),
        "predicted_per_second": written / decode if decode > 0 else 0.0,
    }
