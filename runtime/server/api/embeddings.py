"""/v1/embeddings."""

from __future__ import annotations

import array
import base64
import sys
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import AliasChoices, Field, model_validator

from binhdan.runtime.options import EmbeddingOptions
from binhdan.runtime.prompting.tokenizer import Prompt
from binhdan.runtime.server.answers.embedding import EmbeddingPlan, Embeddings, run_embeddings
from binhdan.runtime.server.api.body import RequestBody
from binhdan.runtime.server.api.common import ModelName
from binhdan.runtime.server.api.prompts import TextOrTokens, texts_of, to_prompt
from binhdan.runtime.server.errors import ApiError
from binhdan.runtime.server.http.json_route import JsonRoute
from binhdan.runtime.server.models.pool import LoadedModel

router = APIRouter(route_class=JsonRoute)


class EmbeddingBody(RequestBody):
    """`input_type` and the fields after it extend OpenAI's API."""

    model: ModelName = None
    input: Annotated[TextOrTokens, Field(validation_alias=AliasChoices("input", "content"))]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int | None, Field(ge=1)] = None
    user: str | None = None

    input_type: Literal["query", "passage"] | None = None  # the prefixes of E5 models
    prefix: Annotated[str | None, Field(max_length=4096)] = None  # precedes each text
    normalize: bool = True
    truncate: bool = False  # cut a text that the context cannot hold; false: an error

    @model_validator(mode="after")
    def _one_prefix(self) -> EmbeddingBody:
        if self.prefix is not None and self.input_type is not None:
            raise ValueError("expected prefix or input_type, got both")
        if self.text_prefix and any(not isinstance(text, str) for text in texts_of(self.input)):
            raise ValueError("input: expected texts with prefix or input_type, got token ids")
        return self

    @property
    def text_prefix(self) -> str:
        return self.prefix or ("" if self.input_type is None else f"{self.input_type}: ")


@router.post("/v1/embeddings")
async def create_embeddings(request: Request, body: EmbeddingBody) -> JSONResponse:
    """One vector for each text, made of its final hidden states as the model specifies."""
    result = await _embed(request, body)
    return JSONResponse(
        {
            "object": "list",
            "model": result.model,
            "data": [
                {"object": "embedding", "index": i, "embedding": _encode(vector, body.encoding_format)}
                for i, vector in enumerate(result.vectors)
            ],
            "usage": result.usage,
        }
    )


@router.post("/embedding", include_in_schema=False)
@router.post("/embeddings", include_in_schema=False)
async def create_native_embeddings(request: Request, body: EmbeddingBody) -> JSONResponse:
    """The same in llama.cpp's form: a list, and one vector in each list of vectors."""
    result = await _embed(request, body)
    vectors = [_encode(vector, body.encoding_format) for vector in result.vectors]
    return JSONResponse([{"index": i, "embedding": [vector]} for i, vector in enumerate(vectors)])


async def _embed(request: Request, body: EmbeddingBody) -> Embeddings:
    def cut(prompt: Prompt, context: int) -> Prompt:
        return Prompt(prompt.tokens[:context]) if body.truncate else prompt

    def plan(loaded: LoadedModel) -> EmbeddingPlan:
        model = loaded.model
        model.check_embedder()
        if body.dimensions is not None and body.dimensions > model.info.embedding:
            raise ApiError(
                400,
                f"dimensions: expected at most {model.info.embedding}, the width of this model, got "
                f"{body.dimensions}",
                param="dimensions",
            )
        prompts = [
            model.tokenizer.embedding_prompt(body.text_prefix + text, truncate=body.truncate)
            if isinstance(text, str)
            else cut(to_prompt(model.tokenizer, text), model.context)
            for text in texts_of(body.input)
        ]
        return EmbeddingPlan(prompts, EmbeddingOptions(dimensions=body.dimensions, normalize=body.normalize))

    return await run_embeddings(request, body.model, plan, param="input")


def _encode(vector: array.array[float], encoding: str) -> Any:
    """A list of numbers, or base64 of little-endian float32."""
    if encoding == "float":
        return vector.tolist()
    if sys.byteorder == "big":
        vector.byteswap()
    return base64.b64encode(vector.tobytes()).decode("ascii")
