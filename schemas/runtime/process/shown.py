"""Exports what processes say of themselves anyway: components of readiness, and what they refuse of the configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from schemas.config_state import Snapshot
from schemas.readiness import health_value
from schemas.runtime.process.telemetry import Metrics

__all__ = ["expose_components", "expose_config"]


class _Config(Protocol):
    @property
    def snapshot(self) -> Snapshot:
        """What is in force."""


def expose_components(metrics: Metrics, components: Callable[[], Mapping[str, str]]) -> None:
    """Export each component as it is when the page is asked for."""
    metrics.look(
        "tallygate_component_healthy",
        lambda: {(name,): health_value(state) for name, state in components().items()},
    )


def expose_config(metrics: Metrics, config: _Config) -> None:
    """Export how far the configuration was read that is in force, and how many entries are refused."""
    metrics.look("tallygate_config_offset", lambda: {(): float(config.snapshot.offset)})
    metrics.look(
        "tallygate_config_refused_entries", lambda: {(): float(len(config.snapshot.problems))}
    )
