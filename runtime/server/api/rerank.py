"""/v1/rerank (the body of Cohere and Jina) and /v1/score (vLLM's): how well documents answer a query."""

from __future__ import annotations

import secrets
import time
from typing import Annotated, Any, Self

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import AliasChoices, Field, model_validator

from binhdan.runtime.options import EmbeddingOptions
from binhdan.runtime.server.answers.embedding import EmbeddingPlan, Embeddings, run_embeddings
from binhdan.runtime.server.api.body import Body, RequestBody
from binhdan.runtime.server.api.common import MAX_TEXTS, ModelName
from binhdan.runtime.server.http.json_route import JsonRoute
from binhdan.runtime.server.models.pool import LoadedModel

router = APIRouter(route_class=JsonRoute)


class Document(Body):
    text: str


class RerankBody(RequestBody):
    """`truncate` extends the API of Cohere and Jina."""

    model: ModelName = None
    query: Annotated[str, Field(min_length=1)]
    documents: Annotated[list[str | Document], Field(min_length=1, max_length=MAX_TEXTS)] = Field(
        default_factory=list
    )
    top_n: Annotated[int | None, Field(ge=1)] = None  # None: all
    return_documents: bool = False
    truncate: bool = False  # cut a document that the context cannot hold; false: an error
    # Text Embeddings Inference (TEI) has this field for documents, and answers with a list.
    texts: Annotated[list[str] | None, Field(min_length=1, max_length=MAX_TEXTS)] = None
    return_text: bool = False

    @model_validator(mode="after")
    def _one_list(self) -> Self:
        if bool(self.documents) == bool(self.texts):
            got = "both" if self.texts else "neither"
            raise ValueError(f"expected documents, or texts of the API of TEI, got {got}")
        return self


Texts = str | Annotated[list[str], Field(min_length=1, max_length=MAX_TEXTS)]


class ScoreBody(RequestBody):
    """One text, or as many as `text_2` has."""

    model: ModelName = None
    text_1: Annotated[Texts, Field(validation_alias=AliasChoices("text_1", "queries"))]
    text_2: Annotated[Texts, Field(validation_alias=AliasChoices("text_2", "documents", "items"))]
    truncate: bool = False

    @model_validator(mode="after")
    def _pairs_match(self) -> Self:
        first, second = len(_listed(self.text_1)), len(_listed(self.text_2))
        if first not in (1, second):
            raise ValueError(f"text_1: expected one text, or as many as text_2, {second}; got {first}")
        return self

    def pairs(self) -> list[tuple[str, str]]:
        """The pairs to score."""
        first, second = _listed(self.text_1), _listed(self.text_2)
        return list(zip(first * len(second) if len(first) == 1 else first, second, strict=True))


@router.post("/v1/rerank")
@router.post("/rerank", include_in_schema=False)
@router.post("/reranking", include_in_schema=False)
@router.post("/v1/reranking", include_in_schema=False)
async def rerank(request: Request, body: RerankBody) -> JSONResponse:
    """The documents with the highest scores, best first. A score is from 0 to 1."""
    documents = body.texts or body.documents
    texts = [document if isinstance(document, str) else document.text for document in documents]
    pairs = [(body.query, text) for text in texts]
    result = await _scores(request, body.model, pairs, body.truncate, "documents")
    scores = [vector[0] for vector in result.vectors]
    best = sorted(range(len(scores)), key=lambda index: -scores[index])[: body.top_n]
    if body.texts:
        return JSONResponse(
            [
                {"index": index, "score": scores[index]}
                | ({"text": texts[index]} if body.return_text else {})
                for index in best
            ]
        )
    results: list[dict[str, Any]] = []
    for index in best:
        document = {"document": {"text": texts[index]}} if body.return_documents else {}
        results.append({"index": index, "relevance_score": scores[index], **document})
    return JSONResponse(
        {
            "id": f"rerank-{secrets.token_hex(12)}",
            "object": "list",
            "model": result.model,
            "results": results,
            "usage": result.usage,
        }
    )


@router.post("/v1/score")
@router.post("/score", include_in_schema=False)
async def score(request: Request, body: ScoreBody) -> JSONResponse:
    """The score of each pair, in order, from 0 to 1."""
    result = await _scores(request, body.model, body.pairs(), body.truncate, "text_2")
    data = [
        {"index": index, "object": "score", "score": vector[0]} for index, vector in enumerate(result.vectors)
    ]
    return JSONResponse(
        {
            "id": f"score-{secrets.token_hex(12)}",
            "object": "list",
            "created": int(time.time()),
            "model": result.model,
            "data": data,
            "usage": result.usage,
        }
    )


async def _scores(
    request: Request, model: str | None, pairs: list[tuple[str, str]], truncate: bool, param: str
) -> Embeddings:
    """Scores pairs of a query and a document."""

    def plan(loaded: LoadedModel) -> EmbeddingPlan:
        loaded.model.check_reranker()
        tokenizer = loaded.model.tokenizer
        prompts = [tokenizer.pair_prompt(first, second, truncate=truncate) for first, second in pairs]
        return EmbeddingPlan(prompts, EmbeddingOptions(pooling="rank"))

    return await run_embeddings(request, model, plan, param=param)


def _listed(texts: str | list[str]) -> list[str]:
    return [texts] if isinstance(texts, str) else texts
