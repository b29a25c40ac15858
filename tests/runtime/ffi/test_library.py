"""runtime/ffi/, runtime/errors.py: names and numbers agree with binhdan.h."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from gguf_edit import with_metadata

import binhdan
from binhdan.runtime.client.model import embedded_model
from binhdan.runtime.errors import from_status
from binhdan.runtime.ffi import ChatFamily, EventKind, library
from binhdan.runtime.options import KvType
from binhdan.runtime.results import FinishReason


@pytest.mark.parametrize(
    ("enum", "prefix", "names"),
    [
        ("binhdan_event_kind", "BINHDAN_EVENT_", get_args(EventKind)),
        ("binhdan_finish", "BINHDAN_FINISH_", (*set(get_args(FinishReason)) - {"invalid"}, "error")),
        ("binhdan_chat_family", "BINHDAN_CHAT_", get_args(ChatFamily)),
        ("binhdan_kv_type", "BINHDAN_KV_", get_args(KvType)),
    ],
)
def test_literal_types_list_all_enumerators(enum: str, prefix: str, names: tuple[str, ...]) -> None:
    assert sorted(library()._names(enum, prefix).values()) == sorted(names)


def test_each_status_has_its_exception() -> None:
    kinds = {
        "INVALID_ARGUMENT": binhdan.InvalidArgumentError,
        "INVALID_HANDLE": binhdan.ClosedError,
        "NOT_FOUND": binhdan.ModelNotFoundError,
        "IO": binhdan.FileReadError,
        "BAD_FORMAT": binhdan.BadFormatError,
        "UNSUPPORTED": binhdan.UnsupportedError,
        "OUT_OF_MEMORY": binhdan.OutOfMemoryError,
        "TOO_LARGE": binhdan.TooLargeError,
        "BUSY": binhdan.BusyError,
        "CLOSED": binhdan.ClosedError,
        "INTERNAL": binhdan.InternalError,
    }
    for name, kind in kinds.items():
        status = library()._value(name)
        assert type(from_status(status, "x")) is kind
        assert name == "INVALID_HANDLE" or kind.code == status


def test_the_library_logs_to_the_logger_binhdan(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    path = with_metadata(embedded_model(), tmp_path / "keys.gguf", {"qwen3.attention.new": "x"})
    library()._start_logging()  # tests of the C functions in this process may have removed the sink
    with caplog.at_level("INFO", logger="binhdan"):
        binhdan.load(path).close()
    warning, opened = caplog.records
    assert (warning.name, warning.levelname) == ("binhdan", "WARNING")
    assert "'qwen3.attention.new'" in warning.message
    assert (opened.name, opened.levelname) == ("binhdan", "INFO")
    assert opened.message.startswith(f"opened {path}: qwen3")
