"""Each alert that is shipped has the fault that makes it fire, or a reason why none can."""

from __future__ import annotations

from tests.foreign.alarms import FAULTS, NOT_HERE, all_alerts


def test_each_alert_has_its_fault_or_a_reason_why_not() -> None:
    """`make alarms` makes the faults."""
    assert set(FAULTS) | set(NOT_HERE) == all_alerts()
    assert set(FAULTS) & set(NOT_HERE) == set()
