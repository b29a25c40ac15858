"""runtime/server/api/attachment.py over HTTP."""

from __future__ import annotations

import base64

import httpx
from serving import serving


def test_text_and_tokens() -> None:
    with serving(keys={"ba": {"key": "khoa-cua-ba"}}, max_body_bytes=1 << 16) as url:
        address = f"{url}/page/attachment"
        key = {"authorization": "Bearer khoa-cua-ba"}
        body = {"data": base64.b64encode("xin chào".encode()).decode()}
        assert httpx.post(address, json=body).status_code == 401
        answer = httpx.post(address, json=body, headers=key).json()
        assert answer["text"] == "xin chào" and 0 < answer["tokens"] < answer["context"]
        for data, status, code in (
            ("x", 400, None),
            ("AAAA", 400, "attachment_not_text"),
            ("a" * (1 << 17), 413, "request_too_large"),
        ):
            refused = httpx.post(address, json={"data": data}, headers=key)
            assert refused.status_code == status and refused.json()["error"].get("code") == code
