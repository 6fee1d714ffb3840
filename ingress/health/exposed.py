"""Metrics of what health knows: bounds that are reached, models without a backend, disks of brokers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ingress.health.watch import HealthWatch
from schemas.runtime.process.telemetry import Metrics

__all__ = ["expose_bounds", "expose_watched"]


def expose_bounds(metrics: Metrics, bounds: Callable[[], Mapping[str, str]]) -> None:
    """Export which bounds are reached, looked up whenever somebody asks."""
    metrics.look("tallygate_bound_reached", lambda: {(name,): 1.0 for name in bounds()})


def expose_watched(metrics: Metrics, watch: HealthWatch) -> None:
    """Export what the watch sees: models that nobody serves, and free bytes of brokers' disks."""

    def without_backend() -> dict[tuple[str, ...], float]:
        fleet = watch.fleet
        return {(): 0.0 if fleet is None else float(len(fleet.models_without_backend))}

    def free_bytes() -> dict[tuple[str, ...], float]:
        return {(host,): float(free) for host, free in watch.free_bytes.items()}

    metrics.look("tallygate_models_without_backend", without_backend)
    metrics.look("tallygate_disk_free_bytes", free_bytes)
