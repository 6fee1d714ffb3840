"""Metrics and readiness as they are shown."""

from __future__ import annotations

from schemas.runtime.process.telemetry import Metrics, readiness


def test_a_counter_that_somebody_else_keeps_is_read_when_the_page_is() -> None:
    """Counting it costs an addition, nothing else."""
    metrics, sent = Metrics(), [0]
    metrics.total("tallygate_store_commands_total", lambda: sent[0], "ledger")
    metrics.total("tallygate_store_commands_total", lambda: 5, "bus")
    sent[0] = 7

    page = metrics.page().decode()
    assert 'tallygate_store_commands_total{kind="ledger"} 7.0' in page
    assert 'tallygate_store_commands_total{kind="bus"} 5.0' in page


def test_a_process_that_can_serve_is_ready_though_something_is_wrong() -> None:
    """A paused partition or a bus that is away leave it useful; a ledger that is away does not."""
    assert readiness({"ledger": "ok"}) == "ok"
    assert readiness({"ledger": "ok", "t-3": "paused: 64 MiB under way"}) == "degraded"
    assert readiness({"ledger": "ok", "bus": "degraded: not connected"}) == "degraded"
    assert readiness({"ledger": "not connected", "t-3": "paused: x"}) == "unavailable"
