"""Logs as JSON, a line each on standard error.

They say what happened to whom, never what was said: no prompt, no key, no path of a file, and of an exception
its type and where it was raised, not its message.
"""

from __future__ import annotations

import json
import logging
import sys
from contextvars import ContextVar
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import PurePath
from types import TracebackType
from typing import Any, TextIO

from binhdan.runtime.server.accounting.record import AnswerRecord

LEVELS = ("debug", "info", "warning", "error")

#: Of the request that the current task works on; the door sets it.
request_id: ContextVar[str] = ContextVar("request_id", default="")

log = logging.getLogger("binhdan.server")

_OWN = ("binhdan", "uvicorn")
# What every record has; the rest came as `extra`.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
_MOST_FRAMES = 12


def configure(level: str = "info", stream: TextIO | None = None) -> None:
    """Sends all logs of this process to `stream`; others' libraries speak from warnings on."""
    handler = _Handler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    number = logging.getLevelNamesMapping()[level.upper()]
    root.setLevel(max(number, logging.WARNING))
    for name in ("binhdan", "uvicorn", "uvicorn.error", "uvicorn.asgi"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
        logger.setLevel(number)
    logging.captureWarnings(True)


def log_answer(record: AnswerRecord) -> None:
    """One line with all that is known of an answer. Times in milliseconds."""
    facts = asdict(record)
    for name in ("queue", "prompt", "decode", "total"):
        facts[f"{name}_ms"] = round(1000 * facts.pop(name), 3)
    log.info("answer", extra=facts)


class JsonFormatter(logging.Formatter):
    """time, level, message and request_id, and what was passed as `extra`, as far as JSON has it."""

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage().strip()
        if not record.name.startswith(_OWN):  # asyncio's go on with how a task looks, warnings with a path
            message = record.name if record.name == "py.warnings" else f"{record.name}: {_first(message)}"
        elif message.startswith("Traceback"):  # uvicorn's, of an application that does not start
            message = f"failed with {message.splitlines()[-1].partition(':')[0]}"
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": message,
        }
        if current := request_id.get():
            line["request_id"] = current
        for name, value in vars(record).items():
            if name not in _STANDARD:
                plain = value is None or isinstance(value, str | int | float | bool)
                line[name] = value if plain else type(value).__name__
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = describe(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False)


def _first(text: str) -> str:
    return text.partition("\n")[0]


def describe(error: BaseException) -> dict[str, Any]:
    """An exception without its message, which may tell what a user wrote. An OSError's is the system's."""
    facts: dict[str, Any] = {"type": type(error).__qualname__}
    if isinstance(error, OSError) and error.strerror:
        facts["reason"] = error.strerror
    facts["at"] = _frames(error.__traceback__)
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        facts["cause"] = type(cause).__qualname__
    if isinstance(error, BaseExceptionGroup):
        facts["of"] = [type(one).__qualname__ for one in error.exceptions[:_MOST_FRAMES]]
    return facts


def _frames(trace: TracebackType | None) -> list[str]:
    """Module, line and function, the innermost last."""
    frames = []
    while trace is not None:
        code = trace.tb_frame.f_code
        module = trace.tb_frame.f_globals.get("__name__") or PurePath(code.co_filename).stem
        frames.append(f"{module}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return frames[-_MOST_FRAMES:]


class _Handler(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:
        """A log that cannot be written must not end what it reports."""
