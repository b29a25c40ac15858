"""/v1/rerank: scores documents by how well they answer a query. The body is that of Cohere and Jina."""

from __future__ import annotations

import secrets
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import Field

from binhdan.runtime.options import EmbeddingOptions
from binhdan.runtime.server.answers.embedding import EmbeddingPlan, run_embeddings
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
    documents: Annotated[list[str | Document], Field(min_length=1, max_length=MAX_TEXTS)]
    top_n: Annotated[int | None, Field(ge=1)] = None  # None: all
    return_documents: bool = False
    truncate: bool = False  # cut a document that the context cannot hold; false: an error


@router.post("/v1/rerank")
async def rerank(request: Request, body: RerankBody) -> JSONResponse:
    """The documents with the highest scores, best first. A score is from 0 to 1."""
    texts = [document if isinstance(document, str) else document.text for document in body.documents]

    def plan(loaded: LoadedModel) -> EmbeddingPlan:
        loaded.model.check_reranker()
        tokenizer = loaded.model.tokenizer
        prompts = [tokenizer.pair_prompt(body.query, text, truncate=body.truncate) for text in texts]
        return EmbeddingPlan(prompts, EmbeddingOptions(pooling="rank"))

    result = await run_embeddings(request, body.model, plan, param="documents")
    scores = [vector[0] for vector in result.vectors]
    best = sorted(range(len(scores)), key=lambda index: -scores[index])[: body.top_n]
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
