"""Grammars from strangers are compiled in a process of their own first.

llguidance bounds most of its work, not all: some grammars take minutes, gigabytes or the whole stack to
compile, and a thread can be neither stopped nor kept from tearing the process down. The process for trials
has limits on time, memory and stack. A grammar that gets through there can be compiled here.
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
_SECONDS = (
    10.0  # for one trial on a loaded machine: the child itself stops after two seconds of processor time
)
_WAIT = 5.0  # for the trials of others
_REMEMBERED = 256
_MOST_REMEMBERED = 1 << 16  # bytes of one grammar
TOO_MUCH = "it takes too much time or memory to compile"


class GrammarTrial:
    """Tries grammars, one at a time, for any number of threads. The process starts at the first trial."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()  # held during a trial
        self._known_lock = threading.Lock()
        self._known: OrderedDict[bytes, str | list[Grammar]] = OrderedDict()

    def check(self, grammars: list[Grammar]) -> str | list[Grammar]:
        """What is wrong with the grammars, in llguidance's words; or the grammars, with GBNF rewritten.

        Takes milliseconds for what is usual and 2 s of processor time at most. Raises BusyError when trials
        of others take too long, InternalError when no process can be started.
        """
        line = json.dumps({"grammars": grammars}).encode()
        key = hashlib.sha256(line).digest()
        known = self._recall(key)
        if known is not None:
            return known
        if not self._lock.acquire(timeout=_WAIT):
            raise BusyError("other requests' grammars are being checked; try again later")
        try:
            result = self._ask(line)
        finally:
            self._lock.release()
        if len(line) <= _MOST_REMEMBERED:
            with self._known_lock:
                self._known[key] = result
                while len(self._known) > _REMEMBERED:
                    self._known.popitem(last=False)
        return result

    def start(self) -> None:
        """Starts the process, so that the first trial need not. Raises InternalError."""
        with self._lock:
            self._running()

    def close(self) -> None:
        """Ends the process. A later trial starts another."""
        with self._lock:
            self._end()

    def _recall(self, key: bytes) -> str | list[Grammar] | None:
        with self._known_lock:
            if key in self._known:
                self._known.move_to_end(key)
            return self._known.get(key)

    def _ask(self, line: bytes) -> str | list[Grammar]:
        process = self._running()
        assert process.stdin is not None and process.stdout is not None
        timer = threading.Timer(_SECONDS, process.kill)
        timer.start()
        answer = b""
        try:
            with suppress(OSError):  # it died: there is no answer
                process.stdin.write(line + b"\n")
                process.stdin.flush()
                answer = process.stdout.readline()
        finally:
            timer.cancel()
        if not answer.endswith(b"\n"):
            self._end()
            return TOO_MUCH
        result = json.loads(answer)
        error: str | None = result.get("error")
        checked: list[Grammar] = result.get("grammars", [])
        return checked if error is None else error

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._end()
        try:
            # -P: the script's folder holds modules of ours that are called as others' are.
            process = subprocess.Popen(
                [sys.executable, "-P", str(_SCRIPT)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the server, which then closes our pipe
            )
        except OSError as error:
            raise InternalError("the process that checks grammars cannot be started") from error
        self._process = process
        timer = threading.Timer(6 * _SECONDS, process.kill)
        timer.start()
        assert process.stdout is not None
        ready = process.stdout.readline()
        timer.cancel()
        if ready != b"ready\n":
            self._end()
            raise InternalError("the process that checks grammars does not start")
        return process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        with suppress(OSError):  # what was not written yet cannot be
            process.communicate()
