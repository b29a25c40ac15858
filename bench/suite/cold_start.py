"""`python -m binhdan.bench.suite.cold_start START MODEL OPTIONS`: a new process answers one question.

START is the parent's time.monotonic() directly before the start: all processes share this clock.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

_QUESTION = "Thủ đô của Việt Nam là gì?"
_TOKENS = 16


@dataclass(frozen=True, slots=True)
class ColdStartTimes:
    """Seconds since the start of the process."""

    ready_s: float
    ttft_s: float
    answer_s: float
    peak_rss_bytes: int


def main(start: float, model: str, options: Mapping[str, Any]) -> ColdStartTimes:
    # Imported here: the import is part of the measured time.
    import binhdan

    with binhdan.load(model, **options) as loaded:
        ready, first = time.monotonic(), 0.0
        stream = loaded.ask(_QUESTION, stream=True, max_tokens=_TOKENS, ignore_eos=True)
        for _ in stream:
            first = first or time.monotonic()
        ended = time.monotonic()
        return ColdStartTimes(ready - start, first - start, ended - start, _peak_rss_bytes())


def measure(model: Path, options: Mapping[str, Any], runs: int) -> list[ColdStartTimes]:
    """`runs` processes, after one uncounted process that reads the file into the page cache.

    Raises EngineError.
    """
    # Not at the top: the child process would import it too.
    from binhdan.bench.common.child import run_child

    starts = []
    for _ in range(runs + 1):
        command = [sys.executable, "-m", "binhdan.bench.suite.cold_start", repr(time.monotonic())]
        output, _ = run_child([*command, str(model), json.dumps(dict(options))])
        starts.append(ColdStartTimes(**json.loads(output)))
    return starts[1:]


def medians(starts: list[ColdStartTimes]) -> ColdStartTimes:
    return ColdStartTimes(
        ready_s=median(one.ready_s for one in starts),
        ttft_s=median(one.ttft_s for one in starts),
        answer_s=median(one.answer_s for one in starts),
        peak_rss_bytes=max(one.peak_rss_bytes for one in starts),
    )


def _peak_rss_bytes() -> int:
    """VmHWM where it exists: Linux's getrusage also counts the memory of the parent process."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource

    from binhdan.bench.common.machine import peak_rss_bytes

    return peak_rss_bytes(resource.getrusage(resource.RUSAGE_SELF))


if __name__ == "__main__":
    try:
        print(json.dumps(asdict(main(float(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])))))
    except Exception as error:
        sys.exit(str(error))
