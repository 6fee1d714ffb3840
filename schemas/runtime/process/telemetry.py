"""Metrics in a registry of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from schemas.metrics import METRICS, MetricName


class _Totals(Collector):
    """Counters that others keep as plain integers; read when the page is."""

    def __init__(self) -> None:
        self.sources: dict[MetricName, list[tuple[tuple[str, ...], Callable[[], float]]]] = {}

    def collect(self) -> Iterator[CounterMetricFamily]:
        for name, sources in self.sources.items():
            spec = METRICS[name]
            family = CounterMetricFamily(name, spec.meaning, labels=spec.labels)
            for labels, read in sources:
                family.add_metric(labels, read())
            yield family


class Metrics:
    """The metrics of one process, by their listed names."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._totals = _Totals()
        self.registry.register(self._totals)
        self._children: dict[tuple[str, tuple[str, ...]], Any] = {}
        self._metrics: dict[str, Counter | Gauge | Histogram] = {}

    def _child(self, name: MetricName, labels: tuple[str, ...]) -> Any:
        child = self._children.get((name, labels))
        if child is None:
            metric = self._metrics.get(name) or self._create(name)
            child = metric.labels(*labels) if labels else metric
            self._children[name, labels] = child
        return child

    def _create(self, name: MetricName) -> Counter | Gauge | Histogram:
        spec = METRICS[name]
        metric: Counter | Gauge | Histogram
        if spec.kind == "counter":
            metric = Counter(name, spec.meaning, spec.labels, registry=self.registry)
        elif spec.kind == "gauge":
            metric = Gauge(name, spec.meaning, spec.labels, registry=self.registry)
        else:
            metric = Histogram(
                name, spec.meaning, spec.labels, registry=self.registry, buckets=spec.buckets
            )
        self._metrics[name] = metric
        return metric

    def count(self, name: MetricName, *labels: str, by: float = 1) -> None:
        """Add to a counter."""
        self._child(name, labels).inc(by)

    def total(self, name: MetricName, read: Callable[[], float], *labels: str) -> None:
        """Export a counter that somebody else keeps, which costs nothing where it counts."""
        self._totals.sources.setdefault(name, []).append((labels, read))

    def observe(self, name: MetricName, value: float, *labels: str) -> None:
        """Add an observation to a histogram."""
        self._child(name, labels).observe(value)

    def set(self, name: MetricName, value: float, *labels: str) -> None:
        """Set a gauge."""
        self._child(name, labels).set(value)

    def page(self) -> bytes:
        """The exposition in Prometheus' text format."""
        return generate_latest(self.registry)


PAGE_CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
