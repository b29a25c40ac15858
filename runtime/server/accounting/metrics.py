"""Metrics for Prometheus: histograms and counters from the records of answers, gauges read when scraped.

Beside our own names (`binhdan_…`, label `model`) stand vLLM's (`vllm:…`, label `model_name`), so that
gateways and autoscalers made for vLLM work: the same figures once more, copied when scraped. Where vLLM looks
at each token, as in `vllm:inter_token_latency_seconds`, ours is an answer's mean, observed once for each.
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

# What Model.load_report() says of each loaded model, by the model's name.
Loads = Callable[[], Mapping[str, Mapping[str, int]]]

# Six to a decade, from 1 ms to 100 s: a percentile read from them is off by a quarter at most.
BUCKETS = (
    *(round(step * 10.0**power, 6) for power in range(-3, 2) for step in (1, 1.5, 2, 3, 4.5, 7)),
    100.0,
)

# Those that ended by themselves: how long a cancelled or broken answer took says nothing of the speed.
_WHOLE = frozenset({"stop", "length", "context", "tool_calls"})

# our name, vLLM's, help, the value of a load report
_GAUGES: tuple[tuple[str, str | None, str, Callable[[Mapping[str, int]], float]], ...] = (
    (
        "requests_running",
        "num_requests_running",
        "Requests that are computed now.",
        lambda load: load["running"],
    ),
    (
        "requests_waiting",
        "num_requests_waiting",
        "Requests that wait for a place.",
        lambda load: load["waiting"],
    ),
    (
        "kv_use_ratio",
        "kv_cache_usage_perc",
        "Part of the memory for keys and values that requests hold, 0 to 1.",
        lambda load: load["kv_bytes"] / max(load["max_kv_bytes"], 1),
    ),
    ("kv_bytes", None, "Bytes of keys and values that requests hold.", lambda load: load["kv_bytes"]),
    (
        "kv_limit_bytes",
        None,
        "Most bytes of keys and values, kept ones too.",
        lambda load: load["max_kv_bytes"],
    ),
    (
        "prefix_cache_bytes",
        None,
        "Bytes kept for prompts that begin alike.",
        lambda load: load["cache_bytes"],
    ),
)

_HISTOGRAMS = {  # ours -> vLLM's
    "binhdan_time_to_first_token_seconds": ("vllm:time_to_first_token_seconds",),
    "binhdan_time_per_output_token_seconds": (
        "vllm:inter_token_latency_seconds",
        "vllm:request_time_per_output_token_seconds",
        "vllm:time_per_output_token_seconds",  # until vLLM 0.10
    ),
    "binhdan_end_to_end_seconds": ("vllm:e2e_request_latency_seconds",),
    "binhdan_queue_seconds": ("vllm:request_queue_time_seconds",),
}
_COUNTERS = {
    "binhdan_prompt_tokens": ("vllm:prompt_tokens", "vllm:prefix_cache_queries"),  # both count tokens
    "binhdan_cached_tokens": ("vllm:prefix_cache_hits",),
    "binhdan_answer_tokens": ("vllm:generation_tokens",),
    "binhdan_answers": ("vllm:request_success",),
}
_ALIASES = _HISTOGRAMS | _COUNTERS
_FINISH_REASONS = {"context": "length", "cancelled": "abort", "tool_calls": "stop"}  # ours -> vLLM's


class Metrics:
    """The metrics of one server, in a registry of its own.

    `loads` is called at each scrape, in the scraping thread. Model names become labels: give only those of
    the configuration.
    """

    def __init__(self, loads: Loads = dict) -> None:
        inner = CollectorRegistry()
        self._first_token = _histogram(inner, "time_to_first_token", "From submitting to the first token.")
        self._per_token = _histogram(
            inner,
            "time_per_output_token",
            "Mean time from token to token of an answer, once for each answer.",
        )
        self._end_to_end = _histogram(
            inner, "end_to_end", "From a request's arrival to the answer's last byte."
        )
        self._queue = _histogram(inner, "queue", "From submitting to the first computation.")
        self._prompt_tokens = _counter(inner, "prompt_tokens", "Tokens of prompts, cached ones too.", "model")
        self._cached_tokens = _counter(inner, "cached_tokens", "Tokens of prompts that were known.", "model")
        self._answer_tokens = _counter(inner, "answer_tokens", "Tokens of answers.", "model")
        self._answers = _counter(inner, "answers", "Answers by how they ended.", "model", "finish_reason")
        self._joules = _counter(inner, "joules", "Measured energy of answers.", "model")
        self._cost = _counter(inner, "cost_vnd", "Cost of answers by the cost model, in đồng.", "model")
        self._refusals = _counter(inner, "refusals", "Requests that were not taken, by reason.", "reason")
        self._registry = CollectorRegistry()
        self._registry.register(_WithAliases(inner))
        self._registry.register(_Loads(loads))
        ProcessCollector(registry=self._registry)

    def observe(self, record: AnswerRecord, bill: Bill | None = None) -> None:
        """Counts an answer that has ended."""
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
            self._first_token.labels(model).observe(record.first_token)
        if record.answer_tokens > 1:
            self._per_token.labels(model).observe(record.decode / (record.answer_tokens - 1))
        if record.finish_reason in _WHOLE:
            self._end_to_end.labels(model).observe(record.total)

    def refused(self, reason: str) -> None:
        """Counts a request that was not taken. `reason` is of a fixed set, as "rate_limit", "queue_full"."""
        self._refusals.labels(reason).inc()

    def render(self) -> tuple[bytes, str]:
        """The page and its content type: always the text format, since prometheus-client's OpenMetrics makes
        underscores of vLLM's colons."""
        return generate_latest(self._registry), "text/plain; version=0.0.4; charset=utf-8"


def _histogram(registry: CollectorRegistry, name: str, text: str) -> Histogram:
    return Histogram(f"binhdan_{name}_seconds", text, ["model"], buckets=BUCKETS, registry=registry)


def _counter(registry: CollectorRegistry, name: str, text: str, *labels: str) -> Counter:
    return Counter(f"binhdan_{name}", text, labels, registry=registry)


class _Loads(Collector):
    """The gauges. A model that is closed meanwhile leaves them out of one scrape."""

    def __init__(self, loads: Loads) -> None:
        self._loads = loads

    def collect(self) -> Iterator[Metric]:
        try:
            loads = self._loads()
        except BinhdanError:
            return
        loaded = GaugeMetricFamily("binhdan_models_loaded", "Models in memory.")
        loaded.add_metric([], len(loads))
        yield loaded
        for ours, theirs, text, value in _GAUGES:
            names = [(f"binhdan_{ours}", "model")] + ([(f"vllm:{theirs}", "model_name")] if theirs else [])
            for name, label in names:
                gauge = GaugeMetricFamily(name, text, labels=[label])
                for model, load in loads.items():
                    gauge.add_metric([model], value(load))
                yield gauge


class _WithAliases(Collector):
    """A registry's metrics, and some of them under other names as well."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        for metric in self._registry.collect():
            yield metric
            for alias in _ALIASES.get(metric.name, ()):
                yield _renamed(metric, alias)


def _renamed(metric: Metric, name: str) -> Metric:
    renamed = Metric(name, metric.documentation, metric.type)
    sums: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}  # our reasons are finer than vLLM's
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
