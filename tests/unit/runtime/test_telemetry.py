"""Metrics as they are shown."""

from __future__ import annotations

from schemas.runtime.process.telemetry import Metrics


def test_a_counter_that_somebody_else_keeps_is_read_when_the_page_is() -> None:
    """Counting it costs an addition, nothing else."""
    metrics, sent = Metrics(), [0]
    metrics.total("tallygate_store_commands_total", lambda: sent[0], "ledger")
    metrics.total("tallygate_store_commands_total", lambda: 5, "bus")
    sent[0] = 7

    page = metrics.page().decode()
    assert 'tallygate_store_commands_total{kind="ledger"} 7.0' in page
    assert 'tallygate_store_commands_total{kind="bus"} 5.0' in page
