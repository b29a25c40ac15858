"""`binhdan spell`: the list, the corrected text and errors."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

WRONG = "Tôi đả đi học ở trường đại học.\n"


def run(*arguments: str | Path, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "binhdan", "spell", *arguments]
    return subprocess.run(command, input=data, capture_output=True, timeout=120)


def test_the_list_and_the_corrected_text(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(f"<p>À\n<b title='đả'>{WRONG}", encoding="utf-8")
    listed = run(tmp_path / "a.html").stdout.decode()
    assert re.fullmatch(re.escape(f"{tmp_path / 'a.html'}:2:19: đả: đã ") + r"(9|100).*%\n", listed)
    assert run("--corrected", data=WRONG.encode()).stdout.decode() == WRONG.replace("đả", "đã")
    assert run(data=WRONG.encode()).stdout.decode().startswith("standard input:1:5: đả: đã ")
    assert run("--min-confidence", "1", data=WRONG.encode()).stdout == b""


def test_errors(tmp_path: Path) -> None:
    done = run(tmp_path / "nowhere")
    assert done.returncode == 1 and "nowhere: no such file" in done.stderr.decode()
    done = run(data=b"a\xff")
    assert done.returncode == 1 and "expected UTF-8, found the byte 0xff at 1" in done.stderr.decode()
    assert "standard input: text: expected text" in run(data=b"a\0").stderr.decode()
    assert "format: expected one of" in run("--format", "x").stderr.decode()
