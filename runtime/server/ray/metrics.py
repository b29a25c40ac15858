"""The metrics of all replicas on one page, each sample with the label `replica`."""

from __future__ import annotations

import time
from collections.abc import Mapping

_OLD_SECONDS = 30.0  # without a new copy, a replica has ended


class MetricsBoard:
    """The last copy of each replica's metrics."""

    def __init__(self) -> None:
        self._pages: dict[str, tuple[float, str]] = {}  # when it came, and the page

    def push(self, replica: str, page: str) -> None:
        self._pages[replica] = (time.monotonic(), page)

    def render(self) -> str:
        """The page for Prometheus."""
        newest = time.monotonic() - _OLD_SECONDS
        self._pages = {name: copy for name, copy in self._pages.items() if copy[0] >= newest}
        return merged({name: page for name, (_, page) in sorted(self._pages.items())})


def merged(pages: Mapping[str, str]) -> str:
    """One page in the text format of Prometheus from a page per replica. The samples of a metric are
    together, as the format demands."""
    metrics: dict[str, list[str]] = {}  # name -> its HELP and TYPE lines, then its samples
    for replica, page in pages.items():
        label, name, known = f'replica="{replica}"', "", False
        for line in page.splitlines():
            if line.startswith("# HELP "):
                name = line.split(" ", 3)[2]
                known = name in metrics
                metrics.setdefault(name, [])
            if line.startswith("#"):
                if not known:
                    metrics[name].append(line)
            elif line:
                metrics[name].append(_labelled(line, label))
    return "".join(f"{line}\n" for lines in metrics.values() for line in lines)


def _labelled(sample: str, label: str) -> str:
    """`name{a="b"} 1` with another label in front."""
    space = sample.index(" ")
    brace = sample.find("{", 0, space)
    if brace < 0:
        return f"{sample[:space]}{{{label}}}{sample[space:]}"
    return f"{sample[: brace + 1]}{label},{sample[brace + 1 :]}"
