"""/page/attachment: the text of a file that the chat page attaches to a question, and its tokens."""

from __future__ import annotations

import asyncio
import base64
import binascii
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field

from binhdan.runtime.client.documents import read_document
from binhdan.runtime.errors import BadFormatError, TooLargeError
from binhdan.runtime.server.api.body import RequestBody
from binhdan.runtime.server.api.common import ModelName
from binhdan.runtime.server.context import server_of
from binhdan.runtime.server.errors import ApiError
from binhdan.runtime.server.http.json_route import JsonRoute

_MAX_BASE64 = 4 << 20  # characters: a file of 3 MiB

router = APIRouter(route_class=JsonRoute)


class AttachmentBody(RequestBody):
    """`data`: the bytes of the file in base64."""

    model: ModelName = None
    data: Annotated[str, Field(max_length=_MAX_BASE64)]


@router.post("/page/attachment", include_in_schema=False)
async def attachment(request: Request, body: AttachmentBody) -> dict[str, Any]:
    """The text, its number of tokens, and the context of the model."""
    try:
        data = base64.b64decode(body.data, validate=True)
        text = await asyncio.to_thread(read_document, data)
    except binascii.Error as error:
        raise ApiError(400, "data: expected base64", param="data") from error
    except TooLargeError as error:
        raise ApiError(413, str(error), code="attachment_too_large", param="data") from error
    except BadFormatError as error:
        raise ApiError(400, str(error), code="attachment_not_text", param="data") from error
    async with server_of(request).pool.use(body.model) as loaded:
        tokens = await asyncio.to_thread(loaded.model.tokenizer.encode, text)
        return {"text": text, "tokens": len(tokens), "context": loaded.model.context}
