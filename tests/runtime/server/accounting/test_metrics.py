"""runtime/server/accounting/metrics.py: checked with Prometheus's own parser."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest
from masks import every_token
from prometheus_client.parser import text_string_to_metric_families as parse_text
from server_records import bill, record

import binhdan
from binhdan.runtime.errors import ClosedError
from binhdan.runtime.server.accounting.metrics import BUCKETS, Metrics

LOAD = {"running": 3, "waiting": 2, "kv_bytes": 250, "max_kv_bytes": 1000, "cache_bytes": 700}


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    page, content_type = metrics.render()
    assert content_type.startswith("text/plain; version=0.0.4")
    families = list(parse_text(page.decode()))
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return samples(metrics)[name, tuple(sorted(labels.items()))]


def test_counters() -> None:
    metrics = Metrics()
    metrics.observe(record(), bill(joules=4.0))
    metrics.observe(record(finish_reason="cancelled"), bill(joules=None))
    metrics.observe(record(model="lớn", cached_tokens=0), None)
    metrics.refused("rate_limit")
    assert value(metrics, "binhdan_prompt_tokens_total", model="tiny") == 200
    assert value(metrics, "binhdan_cached_tokens_total", model="tiny") == 80
    assert value(metrics, "binhdan_answer_tokens_total", model="lớn") == 21
    assert value(metrics, "binhdan_answers_total", model="tiny", finish_reason="cancelled") == 1
    assert value(metrics, "binhdan_joules_total", model="tiny") == 4.0
    assert value(metrics, "binhdan_cost_vnd_total", model="tiny") == 0.5
    assert value(metrics, "binhdan_refusals_total", reason="rate_limit") == 1


def test_histograms() -> None:
    metrics = Metrics()
    metrics.observe(record(queue=0.2, prefill=0.6, decode=2.0, answer_tokens=21, total=3.1))
    expected = {"queue": 0.2, "time_to_first_token": 0.8, "time_per_output_token": 0.1, "end_to_end": 3.1}
    found = samples(metrics)
    for name, seconds in expected.items():
        name = f"binhdan_{name}_seconds"
        assert found[f"{name}_sum", (("model", "tiny"),)] == pytest.approx(seconds)
        buckets = {
            float(dict(labels)["le"]): count
            for (sample, labels), count in found.items()
            if sample == f"{name}_bucket"
        }
        assert tuple(sorted(buckets)) == (*BUCKETS, math.inf)
        assert all(count == (limit >= seconds) for limit, count in buckets.items())


def test_buckets_are_fine_from_a_millisecond_to_a_hundred_seconds() -> None:
    assert BUCKETS[0] == 0.001 and BUCKETS[-1] == 100.0
    assert all(1.0 < high / low < 1.6 for low, high in pairwise(BUCKETS))


@pytest.mark.parametrize(
    ("changes", "counts"),
    [
        # counts of queue, TTFT, TPOT and end-to-end time
        ({"finish_reason": "cancelled", "answer_tokens": 0}, (0, 0, 0, 0)),
        ({"finish_reason": "cancelled", "answer_tokens": 9}, (1, 1, 1, 0)),
        ({"finish_reason": "error", "answer_tokens": 0}, (0, 0, 0, 0)),
        ({"finish_reason": "length", "answer_tokens": 1}, (1, 1, 0, 1)),
        ({"finish_reason": "stop", "answer_tokens": 0, "route": "/v1/embeddings"}, (0, 0, 0, 1)),
    ],
)
def test_only_existing_times_are_observed(changes: dict[str, Any], counts: tuple[int, ...]) -> None:
    metrics = Metrics()
    metrics.observe(record(**changes))
    found = samples(metrics)
    names = ("queue", "time_to_first_token", "time_per_output_token", "end_to_end")
    observed = tuple(
        int(found.get((f"binhdan_{name}_seconds_count", (("model", "tiny"),)), 0)) for name in names
    )
    assert observed == counts


def test_gauges_are_read_at_each_scrape() -> None:
    loads: dict[str, Mapping[str, int]] = {}
    metrics = Metrics(lambda: loads)
    assert value(metrics, "binhdan_models_loaded") == 0
    loads["tiny"] = LOAD
    assert value(metrics, "binhdan_models_loaded") == 1
    assert value(metrics, "binhdan_requests_running", model="tiny") == 3
    assert value(metrics, "binhdan_requests_waiting", model="tiny") == 2
    assert value(metrics, "binhdan_kv_bytes", model="tiny") == 250
    assert value(metrics, "binhdan_kv_limit_bytes", model="tiny") == 1000
    assert value(metrics, "binhdan_kv_use_ratio", model="tiny") == 0.25
    assert value(metrics, "binhdan_prefix_cache_bytes", model="tiny") == 700
    loads.clear()
    assert ("binhdan_requests_running", (("model", "tiny"),)) not in samples(metrics)


def test_gauges_of_a_real_engine(model: binhdan.Model) -> None:
    metrics = Metrics(lambda: {"tiny-vi": model.engine_info()})
    # The engine waits for each mask, so the request runs until this test reads all tokens.
    with model.ask("them dau: ha noi", stream=True, ignore_eos=True, mask=every_token(model)) as stream:
        pieces = iter(stream)  # keep a reference: its end cancels the request
        next(pieces)
        use, deadline = 0.0, time.monotonic() + 30
        # The load report is updated at the end of a step, after the token was delivered.
        while not use and time.monotonic() < deadline:
            found = samples(metrics)
            use = found["vllm:kv_cache_usage_perc", (("model_name", "tiny-vi"),)]
        assert found["binhdan_requests_running", (("model", "tiny-vi"),)] == 1
        assert 0 < use < 1


def test_a_model_closed_during_a_scrape_leaves_the_other_metrics() -> None:
    def closed() -> Mapping[str, Mapping[str, int]]:
        raise ClosedError("the engine was closed")

    metrics = Metrics(closed)
    metrics.observe(record())
    found = samples(metrics)
    assert found["binhdan_answer_tokens_total", (("model", "tiny"),)] == 21
    assert ("binhdan_models_loaded", ()) not in found


def test_vllm_names() -> None:
    metrics = Metrics(lambda: {"tiny": LOAD})
    for reason in ("stop", "tool_calls", "length", "context", "cancelled", "error"):
        metrics.observe(record(finish_reason=reason))
    found = samples(metrics)
    model = ("model_name", "tiny")
    assert found["vllm:num_requests_running", (model,)] == 3
    assert found["vllm:num_requests_waiting", (model,)] == 2
    assert found["vllm:kv_cache_usage_perc", (model,)] == 0.25
    assert found["vllm:prompt_tokens_total", (model,)] == 600
    assert found["vllm:generation_tokens_total", (model,)] == 126
    assert found["vllm:prefix_cache_queries_total", (model,)] == 600
    assert found["vllm:prefix_cache_hits_total", (model,)] == 240
    success = {
        dict(labels)["finished_reason"]: count
        for (name, labels), count in found.items()
        if name == "vllm:request_success_total"
    }
    assert success == {"stop": 2, "length": 2, "abort": 1, "error": 1}
    ours = {
        "time_to_first_token": ["time_to_first_token"],
        "time_per_output_token": [
            "inter_token_latency",
            "time_per_output_token",
            "request_time_per_output_token",
        ],
        "end_to_end": ["e2e_request_latency"],
        "queue": ["request_queue_time"],
    }
    for name, aliases in ours.items():
        for alias in aliases:
            for suffix in ("count", "sum"):
                copied = found[f"vllm:{alias}_seconds_{suffix}", (model,)]
                assert copied == found[f"binhdan_{name}_seconds_{suffix}", (("model", "tiny"),)] > 0


def test_process_metrics() -> None:
    assert value(Metrics(), "process_resident_memory_bytes") > 1e6


def test_two_servers_have_separate_metrics() -> None:
    one, other = Metrics(), Metrics()
    one.observe(record())
    assert ("binhdan_answer_tokens_total", (("model", "tiny"),)) not in samples(other)
