"""What processes say of themselves, as metrics."""

from __future__ import annotations

from schemas.config_references import Problem
from schemas.config_state import Snapshot
from schemas.runtime.process.shown import expose_components, expose_config
from schemas.runtime.process.telemetry import Metrics
from tests.support.samples import sample, samples


class _Config:
    snapshot = Snapshot()


def test_components_are_shown_as_they_are_now() -> None:
    """One that is gone, such as a partition that was paused, is gone here too."""
    metrics = Metrics()
    states = {"ledger": "not connected", "bus": "degraded: not connected", "t-3": "paused: full"}
    expose_components(metrics, lambda: states)

    name = "tallygate_component_healthy"
    found = {
        labels: value
        for (which, labels), value in samples(metrics.page().decode()).items()
        if which == name
    }
    assert {dict(labels)["component"]: value for labels, value in found.items()} == {
        "ledger": 0.0,
        "bus": 0.5,
        "t-3": 0.5,
    }

    states.clear()
    assert name not in metrics.page().decode()


def test_the_configuration_says_how_far_it_goes_and_what_it_lacks() -> None:
    """Whatever is in force when somebody asks."""
    metrics, config = Metrics(), _Config()
    expose_config(metrics, config)
    assert sample(metrics, "tallygate_config_offset") == -1

    config.snapshot = Snapshot(offset=7, problems=(Problem("model/m", "unknown field"),))
    assert sample(metrics, "tallygate_config_offset") == 7
    assert sample(metrics, "tallygate_config_refused_entries") == 1
