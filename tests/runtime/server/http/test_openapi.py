"""The OpenAPI document matches the server; generated requests never make the server fail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from serving import serving


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(models={"a": None}, context=256, max_answer_tokens=8) as url:
        yield url


@pytest.fixture(scope="module")
def document(url: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{url}/openapi.json").json()
    return found


def test_the_document_lists_all_endpoints(document: dict[str, Any]) -> None:
    paths = {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/responses",
        "/v1/embeddings",
        "/v1/rerank",
        "/v1/restore",
        "/v1/spell",
        "/v1/models",
    }
    paths |= {"/tokenize", "/detokenize", "/livez", "/readyz", "/metrics", "/v1/cost"}
    assert paths <= document["paths"].keys()
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert "422" not in operation["responses"], path
            assert {"400", "503"} <= operation["responses"].keys(), path
    assert "schema" in document["components"]["schemas"]["JsonSchemaFormat"]["properties"]


@pytest.mark.slow
def test_generated_requests_never_make_the_server_fail(url: str) -> None:
    schemathesis = pytest.importorskip("schemathesis")
    document = schemathesis.openapi.from_url(f"{url}/openapi.json")
    negative = schemathesis.GenerationMode.NEGATIVE
    tried: Counter[str] = Counter()
    for found in document.get_all_operations():
        operation = found.ok()
        for mode in (schemathesis.GenerationMode.POSITIVE, negative):
            try:
                call_often(operation, mode, tried)
            except Unsatisfiable:  # an operation without parameters has no invalid calls
                assert mode is negative
    print(*sorted(tried.items()), sep="\n")
    assert tried["POST /v1/chat/completions 200"] and tried["POST /v1/chat/completions 400"]


def call_often(operation: Any, mode: Any, tried: Counter[str]) -> None:
    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def check(case: Any) -> None:
        answer = case.call(timeout=60)
        tried[f"{operation.label} {answer.status_code}"] += 1
        assert answer.status_code < 500 or answer.status_code == 503, answer.text
        if answer.status_code >= 400:
            assert answer.json()["error"]["message"]

    check()
