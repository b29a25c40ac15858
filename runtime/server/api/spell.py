"""/v1/spell: misspelled words of Vietnamese text. It needs no model."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field

from binhdan.runtime.client.spell import spell as find_misspellings
from binhdan.runtime.ffi import TextFormat
from binhdan.runtime.server.api.body import RequestBody
from binhdan.runtime.server.api.common import Texts, each_text
from binhdan.runtime.server.http.json_route import JsonRoute

router = APIRouter(route_class=JsonRoute)


class SpellBody(RequestBody):
    """Settings as those of `binhdan.spell`."""

    input: Texts
    format: TextFormat = "text"
    min_confidence: Annotated[float, Field(ge=0, le=1)] = 0.7


@router.post("/v1/spell")
async def spell(body: SpellBody) -> dict[str, Any]:
    """One result per text, in order."""
    return await each_text(body.input, lambda text: _spell(text, body))


def _spell(text: str, body: SpellBody) -> dict[str, Any]:
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
    return {"text": found.text, "misspellings": misspellings}
