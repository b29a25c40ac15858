"""Base classes of the schemas of requests: null, and fields that the server does not have."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, Self

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    model_validator,
)

from binhdan.runtime.server.http import fields


class Body(BaseModel):
    """An object inside a request. A field that is null counts as absent."""

    model_config = ConfigDict(extra="allow", strict=False, allow_inf_nan=False, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, data: Any) -> Any:
        if isinstance(data, dict) and None in data.values():
            return {name: value for name, value in data.items() if value is not None}
        return data


class EchoedBody(Body):
    """An object that clients received in an answer and send back: unknown fields are ignored, and not
    reported."""

    model_config = ConfigDict(extra="ignore")


class RequestBody(Body):
    """The JSON object of a request. Misspelt fields are errors; the other unknown ones are reported."""

    @model_validator(mode="wrap")
    @classmethod
    def _check_names(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        # First the names: a misspelt required field is also a missing one.
        if isinstance(data, dict):
            names = [name for name, value in data.items() if value is not None]
            known = field_names(cls)
            unset = {name for name in names if name not in known and fields.is_off(name, data[name])}
            fields.check_names((name for name in names if name not in unset), known)
        body = handler(data)
        for part, place in _parts(body, ""):
            fields.check_names(part.model_extra or (), field_names(type(part)), place)
        return body


@cache
def field_names(model: type[BaseModel]) -> frozenset[str]:
    """The names of a model's fields in a request."""
    names: set[str] = set()
    for name, field in model.model_fields.items():
        match field.validation_alias:
            case AliasChoices(choices=choices):
                names.update(choice for choice in choices if isinstance(choice, str))
            case str(alias):
                names.add(alias)
            case _:
                names.add(name)
    return frozenset(names)


def _parts(body: BaseModel, place: str) -> Iterator[tuple[BaseModel, str]]:
    """All objects inside `body`, each with its path and a dot."""
    for name in type(body).model_fields:
        value = getattr(body, name)
        path = f"{place}{type(body).model_fields[name].alias or name}"
        if isinstance(value, BaseModel):
            yield value, f"{path}."
            yield from _parts(value, f"{path}.")
        elif isinstance(value, list):
            for i, item in enumerate(value):
                if isinstance(item, BaseModel):
                    yield item, f"{path}[{i}]."
                    yield from _parts(item, f"{path}[{i}].")
