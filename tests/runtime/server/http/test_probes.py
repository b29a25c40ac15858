"""What probes and clients at the edges send: HEAD, HTTP/1.0, trailing slashes, other names, a BOM."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator

import httpx
import pytest
from serving import ANSWER, QUESTION, serving

KEY = "khoa-bi-mat-1"
HEADERS = {"Authorization": f"Bearer {KEY}"}
BODY = {"messages": [{"role": "user", "content": QUESTION}]}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(models={"a": None}, keys={"an": {"key": KEY}}, max_body_bytes=100_000) as url:
        yield url


def raw(url: str, request: bytes) -> bytes:
    """The response on a connection of its own."""
    address = httpx.URL(url)
    with socket.create_connection((address.host, address.port or 0), timeout=10) as connection:
        connection.sendall(request)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    return received


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/health", "/v1/health", "/ping"])
def test_probes(url: str, path: str) -> None:
    for method in ("GET", "HEAD", "OPTIONS"):  # OPTIONS is HAProxy's default, answered with 405 at least
        received = raw(url, f"{method} {path} HTTP/1.0\r\n\r\n".encode())
        wanted = b"HTTP/1.1 401" if method == "OPTIONS" else b"HTTP/1.1 200"
        assert received.startswith(wanted), received
        assert (received.partition(b"\r\n\r\n")[2] == b"") == (method == "HEAD")
    assert raw(
        url, f"GET {path} HTTP/1.1\r\nHost: 10.1.2.3:8080\r\nConnection: close\r\n\r\n".encode()
    ).startswith(b"HTTP/1.1 200")


def test_the_version(url: str) -> None:
    assert httpx.get(f"{url}/version").json()["version"]


def test_head_of_other_paths(url: str) -> None:
    head = httpx.head(f"{url}/v1/models", headers=HEADERS)
    whole = httpx.get(f"{url}/v1/models", headers=HEADERS)
    assert head.status_code == 200 and head.content == b""
    assert head.headers["content-length"] == whole.headers["content-length"]
    assert httpx.head(f"{url}/v1/models").status_code == 401
    assert httpx.head(f"{url}/v1/chat/completions", headers=HEADERS).status_code == 405


@pytest.mark.parametrize("path", ["/v1/models/", "/v1/models/a/", "/livez/", "/v1/models//"])
def test_trailing_slashes(url: str, path: str) -> None:
    assert httpx.get(url + path, headers=HEADERS).status_code == 200


def test_a_valid_key_replaces_the_host_check(url: str) -> None:
    other = {"Host": "binhdan.default.svc"}
    assert httpx.get(f"{url}/v1/models", headers=other).status_code == 421
    assert httpx.get(f"{url}/v1/models", headers=other | {"Authorization": "Bearer sai"}).status_code == 421
    assert httpx.get(f"{url}/v1/models", headers=other | HEADERS).status_code == 200
    assert httpx.get(f"{url}/v1/models", headers=other | {"x-api-key": KEY}).status_code == 200


def test_a_bom_before_the_body(url: str) -> None:
    body = b"\xef\xbb\xbf" + json.dumps(BODY).encode()
    headers = HEADERS | {"Content-Type": "application/json"}
    answer = httpx.post(f"{url}/v1/chat/completions", content=body, headers=headers).json()
    assert answer["choices"][0]["message"]["content"] == ANSWER


def test_a_body_of_50_megabytes_gets_413(url: str) -> None:
    address = httpx.URL(url)
    connection = http.client.HTTPConnection(address.host, address.port, timeout=30)
    headers = HEADERS | {"Content-Type": "application/json"}
    connection.request("POST", "/v1/chat/completions", b"x" * 50_000_000, headers)
    response = connection.getresponse()
    assert response.status == 413 and json.load(response)["error"]["code"] == "request_too_large"
    chunks = (b"x" * 1_000_000 for _ in range(50))
    connection = http.client.HTTPConnection(address.host, address.port, timeout=30)
    connection.request("POST", "/v1/chat/completions", chunks, headers, encode_chunked=True)
    assert connection.getresponse().status == 413
