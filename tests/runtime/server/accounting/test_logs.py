"""runtime/server/accounting/logs.py: JSON lines without private text."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from binhdan.runtime.server.accounting import logs
from binhdan.runtime.server.accounting.record import AnswerRecord

SECRET = "bí mật của người dùng"


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    """Captures all logs. Restores the logging of the process afterwards."""
    names = (None, "binhdan", "uvicorn", "uvicorn.error", "uvicorn.asgi")
    loggers = [logging.getLogger(name) for name in names]
    before = [(logger, logger.handlers, logger.level, logger.propagate) for logger in loggers]
    stream = io.StringIO()
    logs.configure("info", stream)
    yield stream
    logging.captureWarnings(False)
    for logger, handlers, level, propagate in before:
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    text = out.getvalue()
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def test_a_line_of_json(out: io.StringIO) -> None:
    logs.log.info("model loaded", extra={"model": "tiếng Việt\n\x1b[2J", "seconds": 0.5, "other": object()})
    (line,) = lines(out)
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "info",
        "message": "model loaded",
        "model": "tiếng Việt\n\x1b[2J",
        "seconds": 0.5,
        "other": "object",
    }
    assert "tiếng Việt\\n\\u001b[2J" in out.getvalue()  # one line, without control characters for a terminal


def test_request_ids_follow_the_task(out: io.StringIO) -> None:
    async def request(name: str) -> None:
        logs.request_id.set(name)
        await asyncio.sleep(0)
        logs.log.info(name)

    async def both() -> None:
        await asyncio.gather(request("a"), request("b"))

    asyncio.run(both())
    logs.log.info("none")
    assert [(line["message"], line.get("request_id")) for line in lines(out)] == [
        ("a", "a"),
        ("b", "b"),
        ("none", None),
    ]


def test_a_record_becomes_one_line(out: io.StringIO) -> None:
    record = AnswerRecord(
        "req_1", "/v1/chat/completions", "m", "lan", "stop", 10, 4, 20, 0.001, 0.02, 0.3, 0.4
    )
    logs.log_answer(record)
    (line,) = lines(out)
    assert line["message"] == "answer" and line["request_id"] == "req_1" and line["key"] == "lan"
    assert (line["prompt_tokens"], line["cached_tokens"], line["answer_tokens"]) == (10, 4, 20)
    assert (line["queue_ms"], line["prompt_ms"], line["decode_ms"], line["total_ms"]) == (1, 20, 300, 400)


def test_messages_of_exceptions_are_not_logged(out: io.StringIO) -> None:
    try:
        try:
            int(SECRET)
        except ValueError as error:
            raise RuntimeError(SECRET) from error
    except RuntimeError:
        logging.getLogger("uvicorn.error").exception("Exception in ASGI application\n")
    try:
        Path(f"/nowhere/{SECRET}").read_bytes()
    except OSError:
        logs.log.exception("failed")
    first, second = lines(out)
    assert first["message"] == "Exception in ASGI application"
    assert first["error"]["type"] == "RuntimeError" and first["error"]["cause"] == "ValueError"
    assert "test_messages_of_exceptions" in first["error"]["at"][-1] and ":" in first["error"]["at"][-1]
    assert second["error"]["reason"] == "No such file or directory"
    assert SECRET not in out.getvalue() and "nowhere" not in out.getvalue()


def test_logs_of_other_libraries_contain_no_private_text(out: io.StringIO) -> None:
    async def fail() -> None:
        raise ValueError(SECRET)

    async def forget() -> None:
        task = asyncio.ensure_future(fail())
        await asyncio.sleep(0)
        del task

    asyncio.run(forget())
    logging.getLogger("httpx").info("GET %s", SECRET)
    logging.getLogger("uvicorn.error").error(
        "Traceback (most recent call last):\n  x\nValueError: %s", SECRET
    )
    warnings.warn(SECRET, stacklevel=1)
    assert SECRET not in out.getvalue()
    assert [line["message"] for line in lines(out)] == [
        "asyncio: Task exception was never retrieved",
        "failed with ValueError",
        "py.warnings",
    ]


def test_levels(out: io.StringIO) -> None:
    levels = ("debug", "info", "warning", "error")
    for configured in levels:
        logs.configure(configured, out)
        for level in levels:
            logs.log.log(logging.getLevelNamesMapping()[level.upper()], configured)
    assert [line["message"] for line in lines(out)] == ["debug"] * 4 + ["info"] * 3 + ["warning"] * 2 + [
        "error"
    ]


def test_a_failed_write_is_ignored(capsys: pytest.CaptureFixture[str], out: io.StringIO) -> None:
    out.close()
    logs.log.info("lost")
    logs.configure("info", io.StringIO())
    assert capsys.readouterr().err == ""
