from __future__ import annotations

import resource
from dataclasses import dataclass, field

import pytest

from ingress.http.connections import (
    RESERVED_FILES,
    SPARE_CONNECTIONS,
    Connections,
    Phase,
    connections_max,
)


@dataclass(eq=False)
class _Fake:
    is_spare: bool = False
    unwritten: int | None = 0
    ends: list[str] = field(default_factory=list)

    def unwritten_bytes(self) -> int | None:
        return self.unwritten

    def too_late(self, phase: Phase) -> None:
        self.ends.append(phase)

    def abort(self) -> None:
        self.ends.append("aborted")


def _register(most: int = 2) -> Connections:
    return Connections(most, lambda status, code: None)


def test_the_connection_without_a_head_for_longest_makes_room_before_an_idle_one() -> None:
    register, idle, slow, slower = _register(3), _Fake(), _Fake(), _Fake()
    for connection in (idle, slower, slow):
        register.enter(connection, 0.0)
    register.turn(idle, "idle", 0.0)
    newcomer = _Fake()
    assert register.enter(newcomer, 5.0)
    assert (idle.ends, slower.ends, slow.ends) == ([], ["aborted"], [])
    assert not newcomer.is_spare


def test_busy_connections_are_never_closed_for_a_newcomer() -> None:
    register = _register(2)
    for connection in (one := _Fake(), other := _Fake()):
        register.enter(connection, 0.0)
        register.turn(connection, "busy", 0.0)
    newcomer = _Fake()
    assert register.enter(newcomer, 50.0)
    assert newcomer.is_spare
    assert (one.ends, other.ends) == ([], [])


def test_spare_connections_are_bounded_too() -> None:
    register = _register(1)
    register.enter(first := _Fake(), 0.0)
    register.turn(first, "busy", 0.0)
    spares = [_Fake() for _ in range(SPARE_CONNECTIONS)]
    assert all(register.enter(spare, 0.0) for spare in spares)
    assert not register.enter(_Fake(), 0.0)
    register.leave(spares[0])
    assert register.enter(_Fake(), 0.0)


def test_a_client_that_reads_slowly_is_not_stuck() -> None:
    register, slow = _register(), _Fake()
    register.enter(slow, 0.0)
    register.turn(slow, "busy", 0.0)
    for second in range(100):
        slow.unwritten = 1_000_000 - second
        register.sweep(float(second))
    assert slow.ends == []


def test_a_client_that_reads_nothing_for_thirty_seconds_is_aborted() -> None:
    register, stuck = _register(), _Fake(unwritten=1_000)
    register.enter(stuck, 0.0)
    register.turn(stuck, "busy", 0.0)
    for second in range(30):
        register.sweep(float(second))
    assert stuck.ends == []
    register.sweep(30.0)
    assert stuck.ends == ["aborted"]


@pytest.mark.parametrize(("phase", "within_s"), [("head", 10), ("idle", 75), ("draining", 5)])
def test_every_phase_but_answering_has_its_time(phase: Phase, within_s: int) -> None:
    register, connection = _register(), _Fake()
    register.enter(connection, 0.0)
    register.turn(connection, phase, 100.0)
    register.sweep(100.0 + within_s - 0.1)
    assert connection.ends == []
    register.sweep(100.0 + within_s)
    assert connection.ends == [phase]


def test_the_bound_stays_below_the_limit_of_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"now": (256, 512)}
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits["now"])
    monkeypatch.setattr(resource, "setrlimit", lambda _, new: limits.update(now=new))
    assert connections_max(4_096) == 512 - RESERVED_FILES
    assert limits["now"] == (512, 512)
