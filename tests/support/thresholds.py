"""The watch of thresholds where a test has no limits to watch."""

from __future__ import annotations

from typing import Any, cast

from accounting.threshold_watch import ThresholdWatch
from schemas.config_state import Snapshot
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.telemetry import Metrics


def watching_nothing() -> ThresholdWatch:
    """No organization has a limit, so the watch asks and tells nobody."""
    return ThresholdWatch(
        ledger=cast("Any", None),
        store=cast("Any", None),
        producer=cast("Any", None),
        config=Snapshot,
        owned=frozenset,
        metrics=Metrics(),
        clock=Clock(),
        percents=(50, 80, 100),
    )
