"""Compiles untrusted grammars in a separate trial process first.

llguidance does not bound all of its work: some grammars take minutes, gigabytes or the whole stack to
compile, and a thread cannot be stopped. The trial process has limits on time, memory and stack. A grammar
that compiles there is safe to compile in this process. It also validates answers under schemas, which
may take very long too.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any

from binhdan.runtime.errors import BusyError, InternalError

Grammar = dict[str, Any]  # {"name", "lark_grammar" | "gbnf" | "json_schema"}

_SCRIPT = Path(__file__).with_name("grammar_child.py")
_SECONDS = 10.0  # of one trial on a loaded machine; the child itself stops after two seconds of CPU time
_WAIT = 5.0  # seconds to wait for other trials
_MAX_CACHED = 256  # results
_MAX_CACHED_BYTES = 1 << 16  # of one request
TOO_MUCH = "compilation takes too much time or memory"


class GrammarTrial:
    """Compiles grammars one at a time in a child process, which starts at the first trial. Thread-safe."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()  # held during a trial
        self._cache_lock = threading.Lock()
        self._cache: OrderedDict[bytes, str | list[Grammar]] = OrderedDict()

    def check(self, grammars: list[Grammar]) -> str | list[Grammar]:
        """llguidance's error message, or the grammars with GBNF converted to Lark.

        Takes milliseconds for typical grammars, and up to 2 s of CPU time. Raises BusyError when other trials
        take too long, InternalError when the process cannot be started.
        """
        line = json.dumps({"grammars": grammars}).encode()
        key = hashlib.sha256(line).digest()
        cached = self._cached(key)
        if cached is not None:
            return cached
        if not self._lock.acquire(timeout=_WAIT):
            raise BusyError("other requests' grammars are being checked; try again later")
        try:
            answer = self._request(line)
        finally:
            self._lock.release()
        error: str | None = answer.get("error")
        checked: list[Grammar] = answer.get("grammars", [])
        result: str | list[Grammar] = checked if error is None else error
        if len(line) <= _MAX_CACHED_BYTES:
            with self._cache_lock:
                self._cache[key] = result
                while len(self._cache) > _MAX_CACHED:
                    self._cache.popitem(last=False)
        return result

    def fits(self, schema: Any, text: str) -> bool:
        """False if the JSON `text` is not valid under the schema. True also if that takes too much time.

        Raises BusyError and InternalError, as `check`.
        """
        line = json.dumps({"schema": schema, "text": text}).encode()
        if not self._lock.acquire(timeout=_WAIT):
            raise BusyError("other requests' grammars are being checked; try again later")
        try:
            return self._request(line).get("fits") is not False
        finally:
            self._lock.release()

    def start(self) -> None:
        """Starts the process before the first trial. Raises InternalError."""
        with self._lock:
            self._running()

    def close(self) -> None:
        """Ends the process. A later trial starts a new one."""
        with self._lock:
            self._end()

    def _cached(self, key: bytes) -> str | list[Grammar] | None:
        with self._cache_lock:
            if key in self._cache:
                self._cache.move_to_end(key)
            return self._cache.get(key)

    def _request(self, line: bytes) -> dict[str, Any]:
        process = self._running()
        assert process.stdin is not None and process.stdout is not None
        timer = threading.Timer(_SECONDS, process.kill)
        timer.start()
        answer = b""
        try:
            with suppress(OSError):  # the process died: no answer
                process.stdin.write(line + b"\n")
                process.stdin.flush()
                answer = process.stdout.readline()
        finally:
            timer.cancel()
        if not answer.endswith(b"\n"):
            self._end()
            return {"error": TOO_MUCH}
        result: dict[str, Any] = json.loads(answer)
        return result

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._end()
        try:
            # -P keeps the script's folder off sys.path: its modules have common names.
            process = subprocess.Popen(
                [sys.executable, "-P", str(_SCRIPT)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C reaches the server only, which then closes the pipe
            )
        except OSError as error:
            raise InternalError("the trial process for grammars cannot be started") from error
        self._process = process
        timer = threading.Timer(6 * _SECONDS, process.kill)
        timer.start()
        assert process.stdout is not None
        ready = process.stdout.readline()
        timer.cancel()
        if ready != b"ready\n":
            self._end()
            raise InternalError("the trial process for grammars did not start")
        return process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        with suppress(OSError):  # unwritten input is lost
            process.communicate()
