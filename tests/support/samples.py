"""Samples of a process's metrics, read from its page as Prometheus reads them."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from schemas.runtime.process.telemetry import Metrics


def samples(page: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample of a page by its name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def sample(metrics: Metrics, name: str, **labels: str) -> float:
    """One of them; 0 where it was never counted."""
    return samples(metrics.page().decode()).get((name, frozenset(labels.items())), 0.0)
