"""runtime/reasons.py: the words for errors of the operating system and of pydantic."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, SecretStr, TypeAdapter, ValidationError

from binhdan.runtime.reasons import file_reason, value_reason


def reason(path: Path) -> str:
    with pytest.raises(OSError) as caught:
        path.read_bytes()
    return file_reason(caught.value)


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert reason(Path("a")) == f"a: no such file; check the name (the current folder is {tmp_path})"
    assert reason(tmp_path / "a") == f"{tmp_path}/a: no such file; check the name"
    assert reason(tmp_path / "b" / "a").endswith(f"no folder {tmp_path}/b; create it, or check the path")
    assert reason(tmp_path) == f"{tmp_path}: expected a file, got a folder"
    assert file_reason(OSError(28, "No space left on device"), "x").startswith("x: no space is left")
    assert file_reason(OSError(5, "Input/output error")) == "Input/output error"
    assert file_reason(OSError("no number")) == "no number"


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        (int, "abc", "expected a whole number, got abc"),
        (Annotated[float, Field(ge=0)], -1, "expected a number of at least 0, got -1"),
        (Annotated[int, Field(lt=65536)], 99999, "expected a number below 65536, got 99999"),
        (Literal["left", "right"], "up", "expected 'left' or 'right', got up"),
        (list[int], "x" * 100, "expected a list, got " + "x" * 60 + "…"),
        (Annotated[SecretStr, Field(min_length=8)], "zq", "expected at least 8 characters, got 2"),
        (Annotated[list[str], Field(max_length=1)], ["a", "b"], "expected at most 1 item, got 2"),
        (Annotated[str, Field(min_length=8)], "zq", "expected at least 8 characters, got zq"),
    ],
)
def test_values(kind: Any, value: object, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(kind).validate_python(value)
    error: Any = caught.value.errors()[0]
    assert value_reason(error) == words
    assert str(value) not in value_reason(error, show=False)
