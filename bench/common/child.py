"""Runs a command as a child process, and measures its peak memory."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence

from binhdan.bench.common.machine import peak_rss_bytes


class EngineError(Exception):
    """A child process failed. The message is its last line of standard error."""


def run_child(command: Sequence[str]) -> tuple[str, int]:
    """Standard output and peak memory in bytes of a command. Raises EngineError when it fails."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        except OSError as error:
            raise EngineError(f"cannot start {command[0]}: {error.strerror}") from error
        try:
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        except BaseException:
            child.kill()
            child.wait()
            raise
        out.seek(0)
        err.seek(0)
        if child.returncode:
            lines = err.read().decode("utf-8", "replace").strip().splitlines()
            how = f"exit code {child.returncode}" if child.returncode > 0 else f"signal {-child.returncode}"
            raise EngineError(lines[-1] if lines else f"{command[0]} ended with {how} and no error message")
        return out.read().decode("utf-8", "replace"), peak_rss_bytes(usage)
