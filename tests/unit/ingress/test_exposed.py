"""What health knows is on the metrics page, as it is when somebody asks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from ingress.health.exposed import expose_bounds, expose_watched
from ingress.health.watch import HealthWatch
from schemas.runtime.process.telemetry import Metrics


def test_a_bound_is_on_the_page_while_it_is_reached() -> None:
    """By its name, and gone with it."""
    metrics, bounds = Metrics(), {"connections_max": "4096 connections"}
    expose_bounds(metrics, lambda: bounds)
    reached = 'tallygate_bound_reached{bound="connections_max"} 1.0'

    assert reached in metrics.page().decode()
    bounds.clear()
    assert reached not in metrics.page().decode()


def test_models_without_backend_and_free_disk_are_those_of_the_last_look() -> None:
    """Nothing was seen yet: no model is said to be without one."""
    watch, metrics = SimpleNamespace(fleet=None, free_bytes={}), Metrics()
    expose_watched(metrics, cast("HealthWatch", watch))
    assert "tallygate_models_without_backend 0.0" in metrics.page().decode()

    watch.fleet = SimpleNamespace(models_without_backend=("a", "b"))
    watch.free_bytes = {"broker-1": 4096}
    page = metrics.page().decode()

    assert "tallygate_models_without_backend 2.0" in page
    assert 'tallygate_disk_free_bytes{host="broker-1"} 4096.0' in page
