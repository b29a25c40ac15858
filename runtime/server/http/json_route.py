"""Routes whose body the gateway has already parsed.

The gateway parses a body once, with stricter rules than FastAPI has, and stores the value. A router with
`route_class=JsonRoute` validates that value; FastAPI does not parse the bytes again.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.types import Scope

_KEY = "json"  # in the request's state


def store_json(scope: Scope, value: Any) -> None:
    """Stores the parsed body of a request. `scope` must have a state."""
    scope["state"][_KEY] = value


def stored_json(scope: Scope) -> Any:
    """The parsed body of a request; None if it has none."""
    return scope["state"].get(_KEY)


class JsonRoute(APIRoute):
    """A route for `APIRouter(route_class=JsonRoute)`. Without a gateway it parses the body itself."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await handler(_JsonRequest(request.scope, request.receive))

        return handle


class _JsonRequest(Request):
    async def json(self) -> Any:
        state = self.scope.get("state", {})
        return state[_KEY] if _KEY in state else await super().json()
