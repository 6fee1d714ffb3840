"""Logs: ours always, a library's only so many a second."""

from __future__ import annotations

import logging

from schemas.runtime.telemetry import Metrics, _Throttle, readiness


def _record(logger: str) -> logging.LogRecord:
    return logging.LogRecord(logger, logging.ERROR, "", 0, "broker away", None, None)


def test_a_library_that_repeats_itself_is_cut_short_within_a_second() -> None:
    """An outage of a broker must not fill the disk; the next second it may speak again."""
    now_s = [100.0]
    throttle = _Throttle(lambda: now_s[0])
    first = [throttle.filter(_record("aiokafka.consumer.fetcher")) for _ in range(500)]
    now_s[0] = 101.0
    second = [throttle.filter(_record("aiokafka.conn")) for _ in range(3)]

    assert sum(first) == 10
    assert second == [True] * 3


def test_our_own_lines_are_never_cut() -> None:
    """Each is written once, for a reason."""
    throttle = _Throttle(lambda: 1.0)

    assert all(throttle.filter(_record("dispatcher.closing")) for _ in range(500))


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
