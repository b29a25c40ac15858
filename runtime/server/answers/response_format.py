"""From a request's `response_format` to the masks of its answers."""

from __future__ import annotations

from collections.abc import Callable

from binhdan.runtime.client.request import TokenMask
from binhdan.runtime.prompting.tokenizer import Prompt
from binhdan.runtime.server.api.schemas.chat import ResponseFormat
from binhdan.runtime.server.http.errors import ApiError
from binhdan.runtime.server.models.pool import LoadedModel
from binhdan.runtime.structured import constraints
from binhdan.runtime.structured.constraints import Spec, Thinking


def format_spec(format: ResponseFormat | None) -> Spec | None:
    """None for free text. Raises ApiError for a format that lacks what it needs, or is too large."""
    match format:
        case None | ResponseFormat(type="text"):
            return None
        case ResponseFormat(type="json_object"):
            return constraints.json_object()
        case ResponseFormat(type="json_schema"):
            if format.json_schema is None:
                raise ApiError(400, "a json_schema format needs json_schema", param="response_format")
            return constraints.json_schema(format.json_schema.schema_)
        case ResponseFormat(type="regex"):
            return constraints.regex(format.pattern, "response_format.pattern")
        case _:
            return constraints.grammar(format.grammar, "response_format.grammar")


def mask_maker(loaded: LoadedModel, spec: Spec | None, prompt: Prompt) -> Callable[[], TokenMask] | None:
    """Makes the mask of one answer to a prompt; None where everything is allowed. Compiles, so call it in a
    worker thread. Raises ApiError for a form that is wrong or too complex."""
    if spec is None:
        return None
    thinking: Thinking = "no"
    if prompt.thinks:
        thinking = "must" if prompt.inside_thought else "may"
    return loaded.constraints.compile(spec, thinking).mask
