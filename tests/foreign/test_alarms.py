"""Each alert that is shipped has the fault that makes it fire."""

from __future__ import annotations

from tests.foreign.alarms import TRIALS, all_alerts


def test_each_alert_has_its_fault() -> None:
    """`make alarms` makes the faults."""
    tried = [alert for trial in TRIALS for alert in trial.alerts]

    assert sorted(tried) == sorted(all_alerts())
