"""Metrics for Prometheus: counters and histograms of finished answers, gauges that are read at each scrape.

Most metrics have two names: ours (`binhdan_…`, label `model`) and that of vLLM (`vllm:…`, label
`model_name`), so that gateways and autoscalers for vLLM work unchanged. A scrape copies the values. One
difference: `vllm:inter_token_latency_seconds` observes each ITL in vLLM; here it observes the TPOT of each
answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from binhdan.runtime.errors import BinhdanError
from binhdan.runtime.server.accounting.bill import Bill
from binhdan.runtime.server.accounting.record import AnswerRecord

# Returns Model.engine_info() of each loaded model, by the model's name.
EngineInfos = Callable[[], Mapping[str, Mapping[str, int]]]

# Seconds. Six buckets per decade from 1 ms to 100 s, so a percentile has an error of at most a quarter.
BUCKETS = (
    *(round(step * 10.0**power, 6) for power in range(-3, 2) for step in (1, 1.5, 2, 3, 4.5, 7)),
    100.0,
)

# Only complete answers have an end-to-end time: that of a cancelled or failed one does not show the speed.
_COMPLETE = frozenset({"stop", "length", "context", "tool_calls"})

# Our name, vLLM's name, help text, and the value from an engine info.
_GAUGES: tuple[tuple[str, str | None, str, Callable[[Mapping[str, int]], float]], ...] = (
    (
        "requests_running",
        "num_requests_running",
        "Requests that the engine computes now.",
        lambda info: info["running"],
    ),
    (
        "requests_waiting",
        "num_requests_waiting",
        "Requests that wait to be scheduled.",
        lambda info: info["waiting"],
    ),
    (
        "kv_use_ratio",
        "kv_cache_usage_perc",
        "Part of the KV memory limit that running requests hold, 0 to 1.",
        lambda info: info["kv_bytes"] / max(info["max_kv_bytes"], 1),
    ),
    ("kv_bytes", None, "KV bytes that running requests hold.", lambda info: info["kv_bytes"]),
    (
        "kv_limit_bytes",
        None,
        "Limit of KV bytes, running requests and prefix cache together.",
        lambda info: info["max_kv_bytes"],
    ),
    ("prefix_cache_bytes", None, "KV bytes in the prefix cache.", lambda info: info["cache_bytes"]),
)

# Our name -> vLLM's names. Like ours, vLLM's prefix_cache counters count tokens.
_ALIASES = {
    "binhdan_time_to_first_token_seconds": ("vllm:time_to_first_token_seconds",),
    "binhdan_time_per_output_token_seconds": (
        "vllm:inter_token_latency_seconds",
        "vllm:request_time_per_output_token_seconds",
        "vllm:time_per_output_token_seconds",  # the name up to vLLM 0.10
    ),
    "binhdan_end_to_end_seconds": ("vllm:e2e_request_latency_seconds",),
    "binhdan_queue_seconds": ("vllm:request_queue_time_seconds",),
    "binhdan_prompt_tokens": ("vllm:prompt_tokens", "vllm:prefix_cache_queries"),
    "binhdan_cached_tokens": ("vllm:prefix_cache_hits",),
    "binhdan_answer_tokens": ("vllm:generation_tokens",),
    "binhdan_answers": ("vllm:request_success",),
}
_FINISH_REASONS = {"context": "length", "cancelled": "abort", "tool_calls": "stop"}  # ours -> vLLM's


class Metrics:
    """The metrics of one server, in its own registry.

    `engine_infos` is called at each scrape, in the thread of `render`. Model names become labels, so records
    must only contain names of the configuration.
    """

    def __init__(self, engine_infos: EngineInfos = dict) -> None:
        own = CollectorRegistry()
        self._ttft = _histogram(own, "time_to_first_token", "TTFT: from submit to the first token.")
        self._tpot = _histogram(
            own, "time_per_output_token", "TPOT: mean time between two tokens, one value per answer."
        )
        self._end_to_end = _histogram(
            own, "end_to_end", "From the arrival of a request to the last byte of its response."
        )
        self._queue = _histogram(own, "queue", "From submit to the first computation.")
        self._prompt_tokens = _counter(own, "prompt_tokens", "Prompt tokens, cached ones included.", "model")
        self._cached_tokens = _counter(own, "cached_tokens", "Prompt tokens from the prefix cache.", "model")
        self._answer_tokens = _counter(own, "answer_tokens", "Answer tokens.", "model")
        self._answers = _counter(own, "answers", "Answers by finish reason.", "model", "finish_reason")
        self._joules = _counter(own, "joules", "Measured energy of answers, in joules.", "model")
        self._cost = _counter(own, "cost_vnd", "Cost of answers by the cost model, in đồng.", "model")
        self._refusals = _counter(own, "refusals", "Rejected requests by reason.", "reason")
        self._registry = CollectorRegistry()
        self._registry.register(_WithAliases(own))
        self._registry.register(_EngineGauges(engine_infos))
        ProcessCollector(registry=self._registry)

    def observe(self, record: AnswerRecord, bill: Bill | None = None) -> None:
        """Counts a finished answer. It has a TTFT from one token on, a TPOT from two tokens on."""
        model = record.model
        self._prompt_tokens.labels(model).inc(record.prompt_tokens)
        self._cached_tokens.labels(model).inc(record.cached_tokens)
        self._answer_tokens.labels(model).inc(record.answer_tokens)
        self._answers.labels(model, record.finish_reason).inc()
        if bill is not None:
            self._joules.labels(model).inc(bill.joules or 0.0)
            self._cost.labels(model).inc(bill.cost_vnd or 0.0)
        if record.answer_tokens > 0:
            self._queue.labels(model).observe(record.queue)
            self._ttft.labels(model).observe(record.ttft)
        if record.answer_tokens > 1:
            self._tpot.labels(model).observe(record.decode / (record.answer_tokens - 1))
        if record.finish_reason in _COMPLETE:
            self._end_to_end.labels(model).observe(record.total)

    def refused(self, reason: str) -> None:
        """Counts a rejected request. `reason` becomes a label: one of a fixed set, such as "rate_limit"."""
        self._refusals.labels(reason).inc()

    def render(self) -> tuple[bytes, str]:
        """Returns the page and its content type.

        The format is always text: prometheus-client's OpenMetrics replaces the colons in vLLM's names.
        """
        return generate_latest(self._registry), "text/plain; version=0.0.4; charset=utf-8"


def _histogram(registry: CollectorRegistry, name: str, text: str) -> Histogram:
    return Histogram(f"binhdan_{name}_seconds", text, ["model"], buckets=BUCKETS, registry=registry)


def _counter(registry: CollectorRegistry, name: str, text: str, *labels: str) -> Counter:
    return Counter(f"binhdan_{name}", text, labels, registry=registry)


class _EngineGauges(Collector):
    """The gauges. If a model is closed during a scrape, that scrape has no gauges."""

    def __init__(self, engine_infos: EngineInfos) -> None:
        self._engine_infos = engine_infos

    def collect(self) -> Iterator[Metric]:
        try:
            infos = self._engine_infos()
        except BinhdanError:
            return
        loaded = GaugeMetricFamily("binhdan_models_loaded", "Models in memory.")
        loaded.add_metric([], len(infos))
        yield loaded
        for name, vllm_name, text, value in _GAUGES:
            names = [(f"binhdan_{name}", "model")]
            if vllm_name is not None:
                names.append((f"vllm:{vllm_name}", "model_name"))
            for full_name, label in names:
                gauge = GaugeMetricFamily(full_name, text, labels=[label])
                for model, info in infos.items():
                    gauge.add_metric([model], value(info))
                yield gauge


class _WithAliases(Collector):
    """The metrics of a registry, some of them also under vLLM's names."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        for metric in self._registry.collect():
            yield metric
            for alias in _ALIASES.get(metric.name, ()):
                yield _renamed(metric, alias)


def _renamed(metric: Metric, name: str) -> Metric:
    """Copies a metric with vLLM's name, labels and finish reasons; samples that become equal are summed."""
    renamed = Metric(name, metric.documentation, metric.type)
    sums: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for sample in metric.samples:
        labels = dict(sample.labels)
        if "model" in labels:
            labels["model_name"] = labels.pop("model")
        if "finish_reason" in labels:
            reason = labels.pop("finish_reason")
            labels["finished_reason"] = _FINISH_REASONS.get(reason, reason)
        suffix = sample.name.removeprefix(metric.name)
        if suffix != "_created":
            key = (suffix, tuple(labels.items()))
            sums[key] = sums.get(key, 0.0) + sample.value
    for (suffix, items), value in sums.items():
        renamed.add_sample(name + suffix, dict(items), value)
    return renamed
