"""Metrics of one process: plain numbers under listed names, which become a page when somebody asks.

Counting is an addition in a dictionary, because everything that counts runs in the loop's thread; the library's own
counters take ten calls for it. What a page shows is bounded whatever is counted: a label that has taken
``VALUES_MAX`` values, and a metric of ``SERIES_MAX`` series, say ``other`` for all that comes after.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from typing import Final, TypeAlias

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from schemas.metric_names import MetricName
from schemas.metrics import METRICS, MetricSpec

__all__ = ["OTHER", "SERIES_MAX", "VALUES_MAX", "Labels", "Metrics"]

Labels: TypeAlias = tuple[str, ...]
"""Values of labels, in the order of the list."""
Read: TypeAlias = Callable[[], float]
Look: TypeAlias = Callable[[], Mapping[Labels, float]]

OTHER: Final = "other"
VALUES_MAX: Final = 100
SERIES_MAX: Final = 1_000
_TRACE_ID: Final = slice(3, 35)
"""Of a W3C ``traceparent``."""


class _Histogram:
    """Observations of one series, by the bucket they fall into."""

    __slots__ = ("bounds", "counts", "exemplars", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0
        self.exemplars: dict[int, tuple[float, str, bytes | None]] = {}
        """The last request in each bucket: its value, its id, and the trace that it belongs to."""


class Metrics(Collector):
    """The metrics of one process, by their listed names."""

    def __init__(self) -> None:
        self._numbers: dict[str, dict[Labels, float]] = {}
        self._histograms: dict[str, dict[Labels, _Histogram]] = {}
        for name, spec in METRICS.items():
            if spec.kind == "histogram":
                self._histograms[name] = {}
            else:
                self._numbers[name] = {}
        self._totals: dict[str, list[tuple[Labels, Read]]] = {}
        self._looks: dict[str, Look] = {}
        self._values: dict[str, tuple[set[str], ...]] = {}
        self._process = ProcessCollector(registry=None)

    def count(self, name: MetricName, *labels: str, by: float = 1) -> None:
        """Add to a counter; adding nothing shows it from now on."""
        series = self._numbers[name]
        try:
            series[labels] += by
        except KeyError:
            labels = self._bounded(name, labels, series)
            series[labels] = series.get(labels, 0.0) + by

    def total(self, name: MetricName, read: Read, *labels: str) -> None:
        """Export a counter that somebody else keeps, which costs nothing where it counts."""
        self._totals.setdefault(name, []).append((labels, read))

    def observe(
        self,
        name: MetricName,
        value: float,
        *labels: str,
        request_id: str = "",
        traceparent: bytes | None = None,
    ) -> None:
        """Add an observation to a histogram; that of a request becomes the exemplar of its bucket."""
        try:
            histogram = self._histograms[name][labels]
        except KeyError:
            histogram = self._new_histogram(name, labels)
        bucket = bisect_left(histogram.bounds, value)
        histogram.counts[bucket] += 1
        histogram.sum += value
        if request_id:
            histogram.exemplars[bucket] = value, request_id, traceparent

    def set(self, name: MetricName, value: float, *labels: str) -> None:
        """Set a gauge."""
        series = self._numbers[name]
        if labels not in series:
            labels = self._bounded(name, labels, series)
        series[labels] = value

    def look(self, name: MetricName, read: Look) -> None:
        """Export the gauges that ``read`` finds when the page is made: by their labels, and no others."""
        self._looks[name] = read

    def collect(self) -> Iterator[Metric]:
        """All families that have a value, and those of the process that the library reads from the kernel."""
        for name, spec in METRICS.items():
            family = self._family(name, spec)
            if family.samples:
                yield family
        yield from self._process.collect()

    def page(self) -> bytes:
        """The exposition in Prometheus' text format."""
        return self.page_for("")[0]

    def page_for(self, accept: str) -> tuple[bytes, dict[str, str]]:
        """The exposition and its headers: OpenMetrics with exemplars where that is asked for, else Prometheus' text."""
        encode, content_type = choose_encoder(accept)
        return encode(self), {"content-type": content_type}

    def _family(self, name: MetricName, spec: MetricSpec) -> Metric:
        if spec.kind == "histogram":
            return self._histogram_family(name, spec)
        kind = CounterMetricFamily if spec.kind == "counter" else GaugeMetricFamily
        family = kind(name, spec.meaning, labels=spec.labels)
        found = dict(self._numbers[name])
        for labels, read in self._totals.get(name, ()):
            found[labels] = found.get(labels, 0.0) + read()
        if (look := self._looks.get(name)) is not None:
            for labels, value in look().items():
                found[labels if labels in found else self._bounded(name, labels, found)] = value
        for labels, value in found.items():
            family.add_metric(labels, value)
        return family

    def _histogram_family(self, name: MetricName, spec: MetricSpec) -> Metric:
        family = HistogramMetricFamily(name, spec.meaning, labels=spec.labels)
        for labels, histogram in self._histograms[name].items():
            family.add_metric(labels, _buckets(histogram), histogram.sum)
        return family

    def _new_histogram(self, name: MetricName, labels: Labels) -> _Histogram:
        series = self._histograms[name]
        bounded = self._bounded(name, labels, series)
        return series.setdefault(bounded, _Histogram(METRICS[name].buckets))

    def _bounded(self, name: MetricName, labels: Labels, series: Mapping[Labels, object]) -> Labels:
        """The labels under which something new is kept."""
        if len(labels) != len(METRICS[name].labels):
            raise ValueError(f"{name} has the labels {METRICS[name].labels}")
        if len(series) >= SERIES_MAX:
            return (OTHER,) * len(labels)
        seen = self._values.setdefault(name, tuple(set() for _ in labels))
        return tuple(map(_one_of, labels, seen))


def _buckets(histogram: _Histogram) -> list[tuple[str, float] | tuple[str, float, Exemplar]]:
    """Upper bound and how many observations are not above it, with an exemplar where there is one."""
    buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
    reached = 0
    for number, count in enumerate(histogram.counts):
        bound = repr(float((*histogram.bounds, math.inf)[number])).replace("inf", "+Inf")
        reached += count
        kept = histogram.exemplars.get(number)
        buckets.append((bound, reached) if kept is None else (bound, reached, _exemplar(kept)))
    return buckets


def _one_of(value: str, seen: set[str]) -> str:
    """The value, while its label has room for it."""
    if value not in seen:
        if len(seen) >= VALUES_MAX:
            return OTHER
        seen.add(value)
    return value


def _exemplar(kept: tuple[float, str, bytes | None]) -> Exemplar:
    value, request_id, traceparent = kept
    named = {"request_id": request_id}
    if traceparent is not None:
        named["trace_id"] = traceparent[_TRACE_ID].decode("ascii", "replace")
    return Exemplar(named, value)
