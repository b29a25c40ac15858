"""runtime/server/ray/metrics.py: one page from those of all replicas."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families
from server_records import bill, record

from binhdan.runtime.server.accounting.metrics import Metrics
from binhdan.runtime.server.ray import metrics as module
from binhdan.runtime.server.ray.metrics import MetricsBoard, merged


def page(answers: int) -> str:
    metrics = Metrics(lambda: {"tiny": dict.fromkeys(("running", "waiting", "kv_bytes"), 3) | LIMITS})
    for _ in range(answers):
        metrics.observe(record(), bill())
    return metrics.render()[0].decode()


LIMITS = {"max_kv_bytes": 4, "cache_bytes": 1}


def test_samples_have_the_label_of_their_replica() -> None:
    families = {one.name: one for one in text_string_to_metric_families(merged({"a": page(1), "b": page(2)}))}
    answers = [
        (sample.labels["replica"], sample.value)
        for sample in families["binhdan_answers"].samples
        if sample.name == "binhdan_answers_total"
    ]
    assert answers == [("a", 1.0), ("b", 2.0)]
    running = families["vllm:num_requests_running"].samples
    assert [(one.labels, one.value) for one in running] == [
        ({"replica": "a", "model_name": "tiny"}, 3.0),
        ({"replica": "b", "model_name": "tiny"}, 3.0),
    ]
    assert merged({"a": page(1), "b": page(1)}).count("# TYPE binhdan_answers_total ") == 1


def test_replicas_that_have_ended_vanish(monkeypatch: pytest.MonkeyPatch) -> None:
    board = MetricsBoard()
    board.push("a", page(1))
    assert 'replica="a"' in board.render()
    monkeypatch.setattr(module, "_OLD_SECONDS", -1.0)
    assert board.render() == ""
