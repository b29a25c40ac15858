"""/v1/spell: misspelled words of Vietnamese text. It needs no model."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field

from binhdan.runtime.client.spell import spell as find_misspellings
from binhdan.runtime.errors import InvalidArgumentError
from binhdan.runtime.ffi import TextFormat
from binhdan.runtime.server.api.body import RequestBody
from binhdan.runtime.server.api.common import MAX_TEXTS
from binhdan.runtime.server.errors import ApiError
from binhdan.runtime.server.http.json_route import JsonRoute

router = APIRouter(route_class=JsonRoute)


class SpellBody(RequestBody):
    """Settings as those of `binhdan.spell`."""

    input: str | Annotated[list[str], Field(min_length=1, max_length=MAX_TEXTS)]
    format: TextFormat = "text"
    min_confidence: Annotated[float, Field(ge=0, le=1)] = 0.7


@router.post("/v1/spell")
async def spell(body: SpellBody) -> dict[str, Any]:
    """One result per text, in order."""
    texts = [body.input] if isinstance(body.input, str) else body.input
    try:
        return {"object": "list", "data": await asyncio.to_thread(_spell_all, texts, body)}
    except InvalidArgumentError as error:
        raise ApiError(400, str(error), param="input") from error


def _spell_all(texts: list[str], body: SpellBody) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = []
    for index, text in enumerate(texts):
        found = find_misspellings(text, format=body.format, min_confidence=body.min_confidence)
        misspellings = [
            {
                "begin": one.begin,
                "end": one.end,
                "word": one.word,
                "suggestions": [{"text": form, "probability": p} for form, p in one.suggestions],
            }
            for one in found.misspellings
        ]
        results.append({"index": index, "text": found.text, "misspellings": misspellings})
    return results
