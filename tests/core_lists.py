"""What the core supports, from its own error messages."""

from __future__ import annotations

import json
import re
from pathlib import Path

from gguf_edit import with_metadata
from tiny_models import SMALL, write_gguf

from binhdan.runtime.ffi import library


def architectures(folder: Path) -> list[str]:
    """The values of general.architecture. Writes files into ``folder``."""
    return _expected(write_gguf(folder / "architecture.gguf", SMALL), "general.architecture")


def tokenizer_models(folder: Path) -> list[str]:
    """The values of tokenizer.ggml.model. Writes files into ``folder``."""
    return _expected(write_gguf(folder / "tokenizer.gguf", SMALL), "tokenizer.ggml.model")


def _expected(file: Path, key: str) -> list[str]:
    """The values that the core expects for ``key``."""
    wrong = file.with_suffix(".wrong.gguf")
    if key == "general.architecture":  # the GGUF writer has no change of this key
        data = file.read_bytes()
        wrong.write_bytes(data.replace(b"llama", b"lorem"))
    else:
        with_metadata(file, wrong, {key: "unknown"})
    reason = json.loads(library().inspect(str(wrong)))["reason"]
    found = re.search(rf"{re.escape(key)}'?: expected one of (.*), got", reason)
    assert found, reason
    return found[1].split(", ")
