"""`binhdan convert-text`: recognition, both directions, errors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TEXT = "Cộng hòa xã hội chủ nghĩa Việt Nam"


def run(*arguments: str | Path, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "binhdan", "convert-text", *arguments]
    return subprocess.run(command, input=data, capture_output=True, timeout=120)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "tcvn3", "vni", "viqr"])
def test_both_directions(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "text").write_bytes(run("--to", encoding, data=TEXT.encode()).stdout)
    assert run(tmp_path / "text").stdout.decode() == TEXT
    assert run("--from", encoding, tmp_path / "text").stdout.decode() == TEXT


def test_errors(tmp_path: Path) -> None:
    done = run(data=b"x\xff\xfe")
    assert done.returncode == 1 and done.stdout == b""
    assert b"standard input: the encoding cannot be recognised; name it with --from" in done.stderr
    done = run(tmp_path / "missing")
    assert done.returncode == 1 and b"missing: no such file; check the name; expected" in done.stderr
    done = run("--to", "tcvn3", data="5 €".encode())
    assert done.returncode == 1 and b"standard input: expected characters of tcvn3" in done.stderr
    done = run("--from", "latin", data=b"x")
    assert done.returncode == 1 and b"from: expected one of utf-8" in done.stderr
