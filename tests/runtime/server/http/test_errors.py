"""runtime/server/http/errors.py: every error in OpenAI's format, over a real connection."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Annotated, Any, Literal

import httpx
import pytest
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, Field

from binhdan.runtime import errors
from binhdan.runtime.server.errors import ApiError
from binhdan.runtime.server.http.errors import as_api_error, install_handlers

SECRET = "bí mật"


class Part(BaseModel):
    type: Literal["text"]
    text: str


class Message(BaseModel):
    role: Literal["user", "assistant"]
    content: str | list[Part]


class Body(BaseModel, extra="forbid"):
    messages: list[Message]
    temperature: Annotated[float, Field(ge=0, le=2)] = 0


RAISED: dict[str, Exception] = {
    "api": ApiError(418, "no coffee", code="teapot", param="pot", headers={"Retry-After": "7"}),
    "invalid": errors.InvalidArgumentError("n must be positive"),
    "large": errors.TooLargeError("the prompt has 9 tokens, the context 8"),
    "missing": errors.ModelNotFoundError(f"no such file: /home/{SECRET}.gguf"),
    "busy": errors.BusyError("full"),
    "memory": errors.OutOfMemoryError("none"),
    "closed": errors.ClosedError("closed"),
    "read": errors.FileReadError(f"cannot read /home/{SECRET}"),
    "format": errors.BadFormatError(f"/home/{SECRET}.gguf is damaged"),
    "bug": KeyError(SECRET),
    "surrogate": ApiError(400, "model \ud800", param="\udfff"),
    "http": HTTPException(409, SECRET[:1], headers={"X-A": "b"}),
}


def application() -> FastAPI:
    app = FastAPI()
    install_handlers(app)

    @app.post("/chat")
    def chat(body: Body) -> None:
        pass

    @app.get("/raise/{name}")
    def fail(name: str) -> None:
        raise RAISED[name]

    @app.get("/number")
    def number(n: int) -> None:
        pass

    return app


@pytest.fixture
def client(serve: Callable[..., str]) -> httpx.Client:
    return httpx.Client(base_url=serve(application()))


def error_of(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"].startswith("application/json")
    (name,) = response.json()
    error: dict[str, Any] = response.json()[name]
    assert name == "error" and set(error) == {"message", "type", "param", "code"} and error["message"]
    assert SECRET not in response.text
    return error


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("api", 418, "teapot"),
        ("invalid", 400, None),
        ("large", 400, "context_length_exceeded"),
        ("missing", 404, "model_not_found"),
        ("busy", 503, "overloaded"),
        ("memory", 503, "out_of_memory"),
        ("closed", 503, "unloaded"),
        ("read", 500, "internal_error"),
        ("format", 500, "internal_error"),
        ("bug", 500, "internal_error"),
        ("surrogate", 400, None),
        ("http", 409, None),
    ],
)
def test_exceptions_become_responses(
    client: httpx.Client, caplog: pytest.LogCaptureFixture, name: str, status: int, code: str | None
) -> None:
    response = client.get(f"/raise/{name}")
    error = error_of(response, status)
    assert error["code"] == code
    assert error["type"] == ("server_error" if status >= 500 else "invalid_request_error")
    assert ("retry-after" in response.headers) == (status == 503 or name == "api")
    ours = [record for record in caplog.records if record.name == "binhdan.server"]
    assert [record.levelno for record in ours] == ([logging.ERROR] if status == 500 else [])


def test_internal_errors_show_only_the_request_id() -> None:
    message = str(as_api_error(ValueError(SECRET), "req_1"))
    assert "req_1" in message and SECRET not in message
    assert str(as_api_error(errors.InvalidArgumentError("n must be positive"))) == "n must be positive"


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({}, "messages", "Field required"),
        ({"messages": SECRET}, "messages", "valid list"),
        ({"messages": [{"role": "user", "content": "x"}, {"content": "x"}]}, "messages[1].role", "required"),
        ({"messages": [{"role": SECRET, "content": "x"}]}, "messages[0].role", "'user' or 'assistant'"),
        (
            {"messages": [{"role": "user", "content": None}]},
            "messages[0].content",
            "string or Input should be a valid list",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "messages[0].content[0].text",
            "Field required",
        ),
        ({"messages": [], "temperature": 3}, "temperature", "less than or equal to 2"),
        ({"temperature": 3}, "messages", "(and 1 more)"),
        ([], None, "valid dictionary"),
    ],
)
def test_invalid_bodies(client: httpx.Client, body: Any, param: str | None, message: str) -> None:
    error = error_of(client.post("/chat", json=body), 400)
    assert message in error["message"] and len(error["message"]) <= 300
    if param:
        assert error["param"] == param and error["message"].startswith(f"{param}: ")


def test_a_body_that_is_not_json(client: httpx.Client) -> None:
    headers = {"Content-Type": "application/json"}
    error = error_of(client.post("/chat", content=b'{"messages": [}', headers=headers), 400)
    assert "not valid JSON" in error["message"] and error["param"] is None
    error_of(client.post("/chat", content=b"\xff\xfe", headers=headers), 400)
    error_of(client.post("/chat", content=b"{}"), 400)


def test_query_parameters(client: httpx.Client) -> None:
    assert error_of(client.get("/number?n=x"), 400)["param"] == "n"


def test_unknown_paths_and_methods(client: httpx.Client) -> None:
    assert error_of(client.get(f"/{SECRET}"), 404)["code"] == "not_found"
    response = client.get("/chat")
    assert error_of(response, 405)["code"] == "method_not_allowed" and response.headers["allow"] == "POST"
    assert "POST" in response.json()["error"]["message"]
