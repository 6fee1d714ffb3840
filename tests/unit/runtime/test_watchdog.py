"""The watchdog: stuck is what is unfinished for long and for no stated cause."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

from schemas.runtime.kafka.consume.ack_window import AckWindow
from schemas.runtime.kafka.consume.flow import Bounds, Flow
from schemas.runtime.kafka.consume.watchdog import Watchdog
from schemas.runtime.process.telemetry import Metrics

_ONE = ("inference.dispatch.v1", 0)


@dataclass
class _Inbox:
    """As much of an inbox as is watched."""

    topic: str
    window: AckWindow
    flow: Flow

    @property
    def paused(self) -> dict[Any, str]:
        return self.flow.paused

    @property
    def excused(self) -> set[Any]:
        return self.flow.excused()


def _watchdog(bounds: Bounds | None = None) -> tuple[Watchdog, Flow, AckWindow, list[bool]]:
    group = SimpleNamespace(generation=lambda: 1)
    window = AckWindow(cast("Any", group), lambda *_: None, lambda *_: None)
    tap = SimpleNamespace(pause=lambda _: None, resume=lambda _: None)
    flow = Flow(window, bounds or Bounds(), cast("Any", tap))
    inbox = _Inbox(_ONE[0], window, flow)
    reachable = [True]
    dog = Watchdog([cast("Any", inbox)], 720.0, Metrics(), lambda: reachable[0], 0.0)
    window.add(_ONE, 1, 0, 1, now_s=0.0, appended_ms=0)
    return dog, flow, window, reachable


def test_the_oldest_unfinished_record_counts() -> None:
    """From its delivery on."""
    dog, *_ = _watchdog()

    assert dog.look(100.0) == 100.0


def test_time_without_broker_or_ledger_does_not_count() -> None:
    """The clock begins when they are back."""
    dog, _, _, reachable = _watchdog()
    reachable[0] = False
    assert dog.look(700.0) == 0.0
    reachable[0] = True

    assert dog.look(705.0) == 5.0


def test_a_partition_at_its_bound_does_not_count() -> None:
    """Its cause is stated; the age is reported all the same."""
    dog, flow, _, _ = _watchdog(Bounds(records_max=4))
    flow.after_delivery(_ONE)

    assert dog.look(1_000.0) == 0.0
    assert "tallygate_oldest_unfinished_seconds 1000.0" in dog.metrics.page().decode()


def test_a_record_that_a_whole_span_waits_for_counts() -> None:
    """The pause is its fault, and only a restart mends a record that was lost."""
    dog, flow, window, _ = _watchdog(Bounds(span_max=3))
    for offset in (1, 2):
        window.add(_ONE, 1, offset, 1, now_s=0.0, appended_ms=0)
        window.finish(_ONE, 1, offset, 1)
        flow.after_delivery(_ONE)

    assert flow.paused
    assert dog.look(1_000.0) == 1_000.0
