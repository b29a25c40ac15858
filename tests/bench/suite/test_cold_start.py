"""bench/suite/cold_start.py: a new process of the embedded model."""

from __future__ import annotations

from binhdan.bench.suite import cold_start
from binhdan.runtime.client.model import embedded_model


def test_cold_start() -> None:
    (start,) = cold_start.measure(embedded_model(), {"threads": 1}, 1)
    assert 0 < start.ready_s < start.ttft_s <= start.answer_s < 60
    assert 10e6 < start.peak_rss_bytes < 500e6
