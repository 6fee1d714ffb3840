"""A request whose limits are not known here waits alone, and not for ever."""

from __future__ import annotations

from dataclasses import replace

from limiter_worker.late_config import LateConfig
from limiter_worker.taken import Taken
from schemas.runtime.process.clock import Clock
from tests.support.events import accepted, configuration
from tests.support.limiter_parts import FakeConfig, Limiter, ModelLedger


class _SetClock(Clock):
    s = 100.0

    def monotonic_s(self) -> float:
        return self.s


class _Late:
    """The room, its clock, and what it handed on."""

    def __init__(self) -> None:
        self.clock, self.config = _SetClock(), FakeConfig(configuration())
        self.handed: list[Taken] = []
        limiter = Limiter(ModelLedger(), self.config)
        self._limiter = limiter
        self.room = LateConfig(limiter.parts().admission.config, self.clock, self.handed.append)

    def add(self, **more: object) -> None:
        now_ms = self.clock.now_ms()
        fields = {"config_offset": 8, "deadline_ms": now_ms + 60_000} | more
        record = self._limiter.record(accepted(**fields))
        (taken,) = self._limiter.parts().admission.take([record.as_record()])
        self.room.add(taken)

    def look_after(self, seconds: float) -> list[str | None]:
        self.clock.s += seconds
        self.room.look()
        return [taken.decline.why if taken.decline else None for taken in self.handed]


def test_it_goes_on_once_its_limits_are_known() -> None:
    """As if it had just come."""
    late = _Late()
    late.add()
    assert late.look_after(1.0) == []
    late.config.snapshot = replace(configuration(), offset=8)

    assert late.look_after(1.0) == [None]
    assert len(late.room) == 0


def test_after_ten_seconds_its_client_hears_503() -> None:
    """It is never admitted without its limits."""
    late = _Late()
    late.add()

    assert late.look_after(9.9) == []
    assert late.look_after(0.2) == ["unavailable"]


def test_a_deadline_that_is_nearer_counts() -> None:
    """The client hears why just before its time is over."""
    late = _Late()
    late.add(deadline_ms=late.clock.now_ms() + 3_000)

    assert late.look_after(2.4) == []
    assert late.look_after(0.2) == ["unavailable"]


def test_a_job_waits_until_its_deadline() -> None:
    """Nobody is on a connection."""
    late = _Late()
    late.add(background=True)

    assert late.look_after(30.0) == []
    assert late.look_after(30.0) == ["unavailable"]


async def test_revoked_records_are_forgotten() -> None:
    """Their next owner reads them again."""
    late = _Late()
    late.add()
    await late.room.forget()

    assert late.look_after(60.0) == []
