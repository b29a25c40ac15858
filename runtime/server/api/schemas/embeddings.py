"""/v1/embeddings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from binhdan.runtime.server.api.schemas.common import Body
from binhdan.runtime.server.api.schemas.completions import Tokens

MOST_INPUTS = 2048


class EmbeddingBody(Body):
    model: Annotated[str | None, Field(max_length=256)] = None
    input: (
        str
        | Tokens
        | Annotated[list[str], Field(min_length=1, max_length=MOST_INPUTS)]
        | Annotated[list[Tokens], Field(min_length=1, max_length=MOST_INPUTS)]
    )
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int | None, Field(ge=1)] = None
    user: str | None = None

    def inputs(self) -> list[str | list[int]]:
        """One or more, each a text or tokens."""
        if isinstance(self.input, str):
            return [self.input]
        if isinstance(self.input[0], int):
            return [[token for token in self.input if isinstance(token, int)]]
        return [one for one in self.input if not isinstance(one, int)]
