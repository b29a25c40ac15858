"""/v1/restore: restores the diacritics of Vietnamese text. It needs no model."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field

from binhdan.runtime.client import restore as restoring
from binhdan.runtime.ffi import TextFormat, ToneStyle, Typing
from binhdan.runtime.server.api.body import RequestBody
from binhdan.runtime.server.api.common import Texts, each_text
from binhdan.runtime.server.errors import ApiError
from binhdan.runtime.server.http.json_route import JsonRoute

router = APIRouter(route_class=JsonRoute)


class RestoreBody(RequestBody):
    """`explain` adds the forms that each word could have."""

    input: Texts
    style: ToneStyle = "keep"
    format: TextFormat = "text"
    min_confidence: Annotated[float, Field(ge=0, le=1)] = 0.0
    typing: Typing = "none"
    teencode: bool = False
    fast: bool = False
    explain: bool = False


@router.post("/v1/restore")
async def restore(body: RestoreBody) -> dict[str, Any]:
    """One result per text, in order."""
    if body.explain and body.teencode:
        raise ApiError(400, "explain: expected false with teencode, which moves the words", param="explain")
    return await each_text(body.input, lambda text: _restore(text, body))


def _restore(text: str, body: RestoreBody) -> dict[str, Any]:
    settings: restoring.RestoreSettings = {
        "style": body.style,
        "format": body.format,
        "min_confidence": body.min_confidence,
        "typing": body.typing,
        "fast": body.fast,
    }
    if not body.explain:
        return {"text": restoring.restore(text, teencode=body.teencode, **settings)}
    found = restoring.explain(text, **settings)
    choices = [
        {
            "begin": choice.begin,
            "end": choice.end,
            "alternatives": [{"text": form, "probability": p} for form, p in choice.alternatives],
        }
        for choice in found.choices
    ]
    return {"text": found.text, "choices": choices}
