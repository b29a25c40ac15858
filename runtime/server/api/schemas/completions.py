"""/v1/completions."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from binhdan.runtime.server.api.schemas.chat import ResponseFormat
from binhdan.runtime.server.api.schemas.common import Body, Ignored, Sampling

MOST_PROMPTS = 64
MOST_TOKENS = 1_000_000

Tokens = Annotated[list[int], Field(min_length=1, max_length=MOST_TOKENS)]


class CompletionBody(Sampling, Ignored):
    model: Annotated[str | None, Field(max_length=256)] = None
    prompt: (
        str
        | Tokens
        | Annotated[list[str], Field(min_length=1, max_length=MOST_PROMPTS)]
        | Annotated[list[Tokens], Field(min_length=1, max_length=MOST_PROMPTS)]
    )
    max_tokens: Annotated[int | None, Field(ge=1, lt=2**31)] = 16  # OpenAI's default
    logprobs: Annotated[int | None, Field(ge=0, le=20)] = None
    echo: bool = False
    best_of: Annotated[int | None, Field(ge=1, le=1)] = None  # more would be paid for and thrown away
    suffix: None = None
    response_format: ResponseFormat | None = None

    def prompts(self) -> list[str | list[int]]:
        """One or more, each a text or tokens."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [[token for token in self.prompt if isinstance(token, int)]]
        return [prompt for prompt in self.prompt if not isinstance(prompt, int)]


class TokenizeBody(Body):
    """As vLLM's and llama.cpp's. `messages` go through the chat template instead."""

    model: Annotated[str | None, Field(max_length=256)] = None
    content: str | None = None
    prompt: str | None = None
    add_special: bool = False
    parse_special: bool = False
    with_pieces: bool = False


class DetokenizeBody(Body):
    model: Annotated[str | None, Field(max_length=256)] = None
    tokens: Annotated[list[int], Field(max_length=MOST_TOKENS)]
