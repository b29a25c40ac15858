"""Fields that the server does not have: misspelt, reported, refused."""

from __future__ import annotations

import pytest

from binhdan.runtime.server.api.body import field_names
from binhdan.runtime.server.api.chat import ChatBody
from binhdan.runtime.server.errors import ApiError
from binhdan.runtime.server.http import fields

KNOWN = field_names(ChatBody)


@pytest.fixture
def report() -> fields.FieldReport:
    found = fields.FieldReport("warn")
    fields.report.set(found)
    return found


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("temprature", "temperature"),
        ("maxTokens", "max_tokens"),
        ("max-tokens", "max_tokens"),
        ("max_token", "max_tokens"),
        ("mesages", "messages"),
        ("stream_option", "stream_options"),
        ("tool_chioce", "tool_choice"),
        ("topp", "top_p"),
        ("min_tokens", None),
        ("typical_p", None),
        ("mirostat", None),
        ("max_new_tokens", None),
        ("id", None),
        ("x" * 5000, None),
    ],
)
def test_misspelt(name: str, meant: str | None) -> None:
    assert fields.misspelt(name, KNOWN - {name}) == meant


def test_names_are_reported_once(report: fields.FieldReport) -> None:
    fields.check_names(["a", "messages", "a", "tên\r\n"], KNOWN)
    assert report.names == ["a", "tên\r\n"]
    assert report.header() == "a, t%C3%AAn%0D%0A"
    fields.check_names([str(i) for i in range(1000)], KNOWN)
    assert report.header().endswith(", ...") and len(report.header()) < 3000


def test_policies() -> None:
    fields.report.set(ignored := fields.FieldReport("ignore"))
    fields.check_names(["mirostat"], KNOWN)
    assert ignored.header() == "" and ignored.listed() == "mirostat"
    fields.report.set(fields.FieldReport("refuse"))
    with pytest.raises(ApiError, match="mirostat: this server has no such field; remove it"):
        fields.check_names(["mirostat"], KNOWN)


def test_a_misspelt_name_is_refused_under_every_policy() -> None:
    for policy in ("refuse", "warn", "ignore"):
        fields.report.set(fields.FieldReport(policy))
        with pytest.raises(ApiError, match="the nearest field is tools") as caught:
            fields.check_names(["toolz"], KNOWN, "tools[0].")
        assert caught.value.body["error"]["param"] == "tools[0].toolz"
