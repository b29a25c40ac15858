"""Logs as JSON lines on standard error.

A log contains no prompt, no answer, no API key and no path of a file. Of the exception of a request it
contains the type and the place where it was raised, but not the message, which can repeat what a user wrote.
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

# The id of the request that the current task handles; "" outside a request. The gateway sets it.
request_id: ContextVar[str] = ContextVar("request_id", default="")

log = logging.getLogger("binhdan.server")

_OWN = ("binhdan", "uvicorn")  # loggers whose messages are known to contain nothing private
# Attributes that every LogRecord has. All others were passed as `extra`.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
_MAX_FRAMES = 12


def configure(level: str = "info", stream: TextIO | None = None) -> None:
    """Sends all logs of this process to `stream`, by default standard error.

    `level`: debug, info, warning or error, for binhdan and uvicorn. Other libraries log warnings and errors
    only.
    """
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
    """Logs all fields of a record in one line. Times are in milliseconds."""
    fields = asdict(record)
    for field, name in (("queue", "queue"), ("prefill", "prompt"), ("decode", "decode"), ("total", "total")):
        fields[f"{name}_ms"] = round(1000 * fields.pop(field), 3)
    log.info("answer", extra=fields)


class JsonFormatter(logging.Formatter):
    """Writes time, level, message, request_id and the fields of `extra`.

    A value of `extra` that is not a string, number, boolean or None is replaced by the name of its type.
    """

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage().strip()
        first_line, _, _ = message.partition("\n")
        if record.name == "py.warnings":  # the text of a warning contains a path
            message = record.name
        elif not record.name.startswith(_OWN):  # asyncio's further lines contain reprs, with a user's text
            message = f"{record.name}: {first_line}"
        elif message.startswith("Traceback"):  # from uvicorn, when the app fails to start
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
            line["error"] = _describe(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False)


def _describe(error: BaseException) -> dict[str, Any]:
    """Describes an exception without its message. The `reason` of an OSError is the system's own text."""
    fields: dict[str, Any] = {"type": type(error).__qualname__}
    if isinstance(error, OSError) and error.strerror:
        fields["reason"] = error.strerror
    fields["at"] = _frames(error.__traceback__)
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        fields["cause"] = type(cause).__qualname__
    if isinstance(error, BaseExceptionGroup):
        fields["of"] = [type(inner).__qualname__ for inner in error.exceptions[:_MAX_FRAMES]]
    return fields


def _frames(trace: TracebackType | None) -> list[str]:
    """Returns "module:line function" of the innermost frames, innermost last."""
    frames = []
    while trace is not None:
        code = trace.tb_frame.f_code
        module = trace.tb_frame.f_globals.get("__name__") or PurePath(code.co_filename).stem
        frames.append(f"{module}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return frames[-_MAX_FRAMES:]


class _Handler(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:
        """Ignores the error: a failed write to the log must not fail the request."""
