"""The clock of a process tells the ledger's time, whatever the clocks of machines and brokers say."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, cast

import pytest

from schemas.clock_estimate import Reading
from schemas.runtime.ledger.time_source import LedgerTime
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.telemetry import Metrics
from schemas.runtime.valkey.store import Store, StoreUnavailable

_TEN_MINUTES_MS = 600_000


class _Store:
    """A ledger whose clock is ahead of this machine's."""

    def __init__(self, ahead_ms: int) -> None:
        self.ahead_ms = ahead_ms
        self.is_away = False
        self.asked = 0

    async def call(self, *command: str) -> list[bytes]:
        assert command == ("TIME",)
        self.asked += 1
        if self.is_away:
            raise StoreUnavailable("away")
        now_us = time.time_ns() // 1_000 + self.ahead_ms * 1_000
        return [str(now_us // 1_000_000).encode(), str(now_us % 1_000_000).encode()]


def _ledger_time(store: _Store) -> LedgerTime:
    return LedgerTime(Clock(), cast("Store", store), Metrics())


def _local_ms() -> int:
    return time.time_ns() // 1_000_000


def _broker_reading(ahead_ms: int) -> Reading:
    now_s = time.monotonic()
    return Reading(now_s, now_s, _local_ms() + ahead_ms)


@pytest.mark.parametrize("ahead_ms", [-_TEN_MINUTES_MS, -11_000, 2_000, _TEN_MINUTES_MS])
async def test_now_is_the_ledgers_time(ahead_ms: int) -> None:
    """A machine whose clock is off computes like all others, and says by how much it is off."""
    ledger_time = _ledger_time(_Store(ahead_ms))
    await ledger_time.measure()
    clock = ledger_time.clock

    assert clock.now_ms() == pytest.approx(_local_ms() + ahead_ms, abs=50)
    assert clock.component == "ok"
    assert clock.facts["local_ahead_ms"] == pytest.approx(-ahead_ms, abs=50)


async def test_a_local_clock_that_jumps_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a machine is set right, or resumed."""
    ledger_time = _ledger_time(_Store(0))
    await ledger_time.measure()
    before_ms = ledger_time.clock.now_ms()
    set_back: Callable[[], int] = lambda: 1  # noqa: E731  # stands for time.time_ns
    monkeypatch.setattr(time, "time_ns", set_back)

    assert 0 <= ledger_time.clock.now_ms() - before_ms < 1_000


async def test_before_the_first_measurement_a_process_is_not_ready() -> None:
    """It knows only its own clock."""
    ledger_time = _ledger_time(_Store(_TEN_MINUTES_MS))
    ledger_time.store.is_away = True  # type: ignore[attr-defined]  # it is a _Store
    await ledger_time.measure()

    assert ledger_time.clock.component != "ok"
    assert ledger_time.clock.now_ms() == pytest.approx(_local_ms(), abs=50)


async def test_while_the_ledger_is_away_time_runs_on() -> None:
    """From the last measurement, which holds for half an hour."""
    store = _Store(_TEN_MINUTES_MS)
    ledger_time = _ledger_time(store)
    await ledger_time.measure()
    store.is_away = True
    await ledger_time.measure()

    assert ledger_time.clock.now_ms() == pytest.approx(_local_ms() + _TEN_MINUTES_MS, abs=50)
    assert ledger_time.clock.component == "ok"


async def test_a_step_of_the_ledgers_clock_is_followed_and_written_down(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Everybody follows it within two seconds."""
    store = _Store(0)
    ledger_time = _ledger_time(store)
    await ledger_time.measure()
    store.ahead_ms = -11_000
    with caplog.at_level(logging.WARNING):
        await ledger_time.measure()

    assert ledger_time.clock.now_ms() == pytest.approx(_local_ms() - 11_000, abs=50)
    assert "step_ms=-11000" in caplog.text


async def test_a_quick_ledger_is_asked_once_a_measurement() -> None:
    """More would be commands for nothing."""
    store = _Store(0)
    await _ledger_time(store).measure()

    assert store.asked == 1


def test_append_times_are_read_in_the_ledgers_time() -> None:
    """A broker that is ten minutes off makes nobody late."""
    clock = Clock()
    assert clock.happened_ms(1) is None
    clock.learn_ledger(_broker_reading(0))
    clock.learn_broker(_broker_reading(_TEN_MINUTES_MS))

    assert clock.happened_ms(_local_ms() + _TEN_MINUTES_MS) == pytest.approx(_local_ms(), abs=50)


def test_what_was_read_was_not_appended_later_than_now() -> None:
    """A broker whose clock was just moved ahead makes nobody late, until its next acknowledgement."""
    clock = Clock()
    clock.learn_ledger(_broker_reading(0))
    clock.learn_broker(_broker_reading(0))

    assert clock.happened_ms(_local_ms() + _TEN_MINUTES_MS) == pytest.approx(_local_ms(), abs=50)


@pytest.mark.parametrize(
    ("ahead_ms", "least_ms", "most_ms"),
    [
        (None, -900_000, 900_000),
        (0, -2_000, 2_000),
        (_TEN_MINUTES_MS, -2_000, 602_000),
        (-_TEN_MINUTES_MS, -602_000, 2_000),
    ],
)
def test_a_span_of_time_is_searched_for_where_the_broker_may_have_put_it(
    ahead_ms: int | None, least_ms: int, most_ms: int
) -> None:
    """Also where it stood before its clock was moved."""
    clock = Clock()
    clock.learn_ledger(_broker_reading(0))
    if ahead_ms is not None:
        clock.learn_broker(_broker_reading(ahead_ms))

    first_ms, last_ms = clock.appended_span_ms(5_000_000, 6_000_000)

    assert first_ms == pytest.approx(5_000_000 + least_ms, abs=5)
    assert last_ms == pytest.approx(6_000_000 + most_ms, abs=5)


async def test_what_is_told_is_in_the_metrics() -> None:
    """Under the names of the list."""
    ledger_time = _ledger_time(_Store(11_000))
    ledger_time.clock.learn_broker(_broker_reading(0))
    await ledger_time.measure()
    page: Any = ledger_time.metrics.page().decode()

    assert "tallygate_clock_local_ahead_seconds -11.0" in page.replace("-10.99", "-11.0")
    assert "tallygate_clock_broker_ahead_seconds" in page
