"""Slots of backends: who may be called, and what calls that fail or hang do to whom."""

from __future__ import annotations

import pytest

from dispatcher.backends.breaker import OPEN_S
from dispatcher.backends.registry import SILENT_S, Backends, Slot
from schemas.errors import ErrorCode
from tests.unit.dispatcher.slots_scene import SetClock, backends_of, break_down, call, slot_of


def test_a_broken_backend_is_not_called_while_its_breaker_is_open() -> None:
    """All calls go to the other one."""
    backends = backends_of(a=10, b=10)
    break_down(backends, "a")

    assert {call(backends, "succeeded") for _ in range(50)} == {"b"}


def test_nobody_is_called_when_every_breaker_is_open() -> None:
    """At once, however much time is left."""
    backends = backends_of(a=10)
    break_down(backends, "a")

    assert backends.take("echo") is ErrorCode.NO_BACKEND


def test_a_half_open_backend_gets_one_call_and_returns_with_its_success() -> None:
    """While the trial runs all others go elsewhere."""
    clock = SetClock()
    backends = backends_of(clock, a=10, b=10)
    break_down(backends, "a")
    clock.now_s += OPEN_S
    trial = slot_of(backends, "b")

    assert {call(backends, "succeeded") for _ in range(50)} == {"b"}
    backends.give_back(trial, "succeeded")
    assert {call(backends, "succeeded") for _ in range(50)} == {"a", "b"}


def test_a_backend_that_only_fails_probes_is_the_last_resort() -> None:
    """It comes last, but it comes before a refusal."""
    backends = backends_of(a=10, b=10)
    for _ in range(2):
        backends.probed("a", answered=False)

    assert {call(backends, "succeeded") for _ in range(50)} == {"b"}
    assert call(backends, "succeeded", "b") == "a"


def test_a_backend_gets_at_most_half_of_the_slots_of_the_process() -> None:
    """Whatever it says that it takes: the other half is for the others."""
    backends = backends_of(a=1_024)
    for _ in range(backends.slots // 2):
        slot_of(backends)

    assert backends.take("echo") is ErrorCode.OVERLOADED
    assert not backends.is_full


def test_the_process_makes_no_more_calls_than_it_has_slots() -> None:
    """However many backends there are."""
    backends = backends_of(a=1_024, b=1_024, c=1_024, d=1_024)
    while not backends.is_full:
        slot_of(backends)

    assert backends.calls == backends.slots
    assert backends.take("echo") is ErrorCode.OVERLOADED


def test_a_model_does_not_fill_a_backend_that_others_share() -> None:
    """A quarter is left for them; one that serves a single model is filled."""
    shared = backends_of(models=("echo", "huge"), a=40)
    while isinstance(shared.take("huge"), Slot):
        pass

    assert shared.states["a"].in_flight == 30
    assert isinstance(shared.take("echo"), Slot)
    alone = backends_of(a=40)
    while isinstance(alone.take("echo"), Slot):
        pass
    assert alone.states["a"].in_flight == 40


def test_failures_of_a_model_do_not_close_its_backend_to_others() -> None:
    """Its own breaker opens; the backend itself is well."""
    backends = backends_of(models=("echo", "broken"), a=100)
    for _ in range(24):
        if isinstance(slot := backends.take("broken"), Slot):
            backends.give_back(slot, "failed")
    call(backends, "succeeded")

    assert backends.take("broken") is ErrorCode.NO_BACKEND
    assert isinstance(backends.take("echo"), Slot)
    backends.observe()
    assert backends.states["a"].shown == "healthy"
    assert backends.broken_models("a") == ["broken"]


def _hang(backends: Backends, clock: SetClock, calls: int, *tried: str) -> list[Slot]:
    """So many calls begin and stay silent for longer than is decent."""
    slots = [slot_of(backends, *tried) for _ in range(calls)]
    clock.now_s += SILENT_S + 0.1
    backends.look()
    return slots


def _answer(backends: Backends, clock: SetClock, calls: int, after_s: float) -> None:
    """So many calls succeed, each first byte after so long."""
    slots = [slot_of(backends) for _ in range(calls)]
    clock.now_s += after_s
    for slot in slots:
        backends.answered(slot)
        backends.give_back(slot, "succeeded")
    backends.look()


def test_calls_that_hang_open_the_breaker_while_they_hang() -> None:
    """Others get an answer at once, instead of a slot to hang in."""
    clock = SetClock()
    backends = backends_of(clock, a=100)
    _answer(backends, clock, 12, 0.05)
    clock.now_s += 11
    _hang(backends, clock, 20)

    assert backends.take("echo") is ErrorCode.NO_BACKEND
    backends.observe()
    assert backends.states["a"].shown == "open"


def test_what_waits_for_a_store_does_not_hang() -> None:
    """Its silence begins with its call, and so does the time to its first byte."""
    clock = SetClock()
    backends = backends_of(clock, a=100)
    _answer(backends, clock, 12, 0.05)
    slots = [slot_of(backends) for _ in range(20)]
    for slot in slots:
        backends.waits(slot)
    clock.now_s += 60.0
    backends.look()
    for slot in slots:
        backends.begins(slot)
    clock.now_s += SILENT_S / 2
    backends.look()

    assert not any(slot.has_hung for slot in slots)
    assert {slot.began_s for slot in slots} == {clock.now_s - SILENT_S / 2}


def test_a_call_counts_once_as_hanging() -> None:
    """Its later failure is the same one."""
    clock = SetClock()
    backends = backends_of(clock, a=100)
    _answer(backends, clock, 12, 0.05)
    slots = _hang(backends, clock, 10)
    for slot in slots:
        backends.give_back(slot, "failed")

    assert isinstance(backends.take("echo"), Slot)


def test_a_late_success_closes_what_silence_opened() -> None:
    """The backend was slow, and is not gone."""
    clock = SetClock()
    backends = backends_of(clock, a=100)
    _answer(backends, clock, 12, 0.05)
    clock.now_s += 11
    slots = _hang(backends, clock, 20)
    backends.answered(slots[0])
    backends.give_back(slots[0], "succeeded")

    assert isinstance(backends.take("echo"), Slot)


def test_one_that_always_thinks_for_a_minute_is_not_punished() -> None:
    """What is usual for the model is no silence."""
    clock = SetClock()
    backends = backends_of(clock, a=100)
    _answer(backends, clock, 30, 60.0)
    for _ in range(5):
        slots = [slot_of(backends) for _ in range(40)]
        for _ in range(60):
            clock.now_s += 1
            backends.look()
        assert isinstance(backends.take("echo"), Slot)
        for slot in slots:
            backends.answered(slot)
            backends.give_back(slot, "succeeded")


def test_a_slow_model_that_never_answered_yet_is_believed_in_while_it_has_slots() -> None:
    """Slow and broken look the same then; refusing it would help nobody."""
    clock = SetClock()
    backends = backends_of(clock, a=100)
    _hang(backends, clock, 40)

    assert isinstance(backends.take("echo"), Slot)


@pytest.mark.parametrize("sign", ["full", "no probe answered", "another backend answers"])
def test_one_that_never_answered_counts_as_hanging_once_something_speaks_against_it(
    sign: str,
) -> None:
    """Its slots are all taken, its probes hang as well, or the model answers quickly elsewhere."""
    clock = SetClock()
    backends = backends_of(clock, a=20 if sign == "full" else 100, b=100)
    if sign == "no probe answered":
        for _ in range(2):
            backends.probed("a", answered=False)
    if sign == "another backend answers":
        other = slot_of(backends, "a")
        backends.answered(other)
        backends.give_back(other, "succeeded")
    _hang(backends, clock, 20, "b")

    assert backends.take("echo", ("b",)) is ErrorCode.NO_BACKEND


def test_a_trial_that_hangs_opens_the_breaker_again() -> None:
    """And the next one comes five seconds later, although the first still hangs."""
    clock = SetClock()
    backends = backends_of(clock, a=100)
    _answer(backends, clock, 12, 0.05)
    clock.now_s += 11
    _hang(backends, clock, 20)
    clock.now_s += OPEN_S
    _hang(backends, clock, 1)

    assert backends.take("echo") is ErrorCode.NO_BACKEND
    clock.now_s += OPEN_S
    assert isinstance(backends.take("echo"), Slot)


def test_second_attempts_are_a_fifth_of_the_calls_and_three() -> None:
    """Beyond that there is no slot for them."""
    backends = backends_of(a=100, b=100)
    calls = [slot_of(backends) for _ in range(10)]
    retries = [slot_of(backends, "a", is_retry=True) for _ in range(6)]

    assert backends.take("echo", ("a",), is_retry=True) is ErrorCode.OVERLOADED
    backends.give_back(retries[0], "succeeded")
    assert isinstance(backends.take("echo", ("a",), is_retry=True), Slot)
    assert (backends.calls, backends.retries) == (len(calls) + 6, 6)


def test_a_call_without_a_verdict_leaves_the_breaker_alone() -> None:
    """Clients that leave must not close a backend to others."""
    backends = backends_of(a=10)
    for _ in range(50):
        call(backends, "undecided")

    assert call(backends, "succeeded") == "a"
    assert backends.states["a"].in_flight == 0


def test_changes_of_state_are_seen_once_with_their_time() -> None:
    """Also those that time alone brings about, and backends that come and go."""
    clock = SetClock()
    backends = backends_of(clock, a=10, b=10)

    assert sorted(backends.observe()) == ["a", "b"]
    break_down(backends, "a")
    assert backends.observe() == ["a"]
    assert backends.observe() == []
    clock.now_s += OPEN_S
    assert backends.observe() == ["a"]
    backend_state = backends.states["a"]
    assert (backend_state.shown, backend_state.since_ms) == ("half_open", clock.now_ms())


@pytest.mark.parametrize("model", ["echo", "unknown"])
def test_a_model_without_backends_leads_nowhere(model: str) -> None:
    """Both may have been removed since admission."""
    assert backends_of().take(model) is ErrorCode.NO_BACKEND


def test_lanes_tell_calls_and_breakers_by_model() -> None:
    """What has neither is left out."""
    backends = backends_of(models=("echo", "idle", "broken"), a=100)
    slot_of(backends, model="echo")
    for _ in range(20):
        call(backends, "failed", model="broken")
    call(backends, "succeeded", model="idle")
    lanes = backends.lanes_of("a")

    assert {model: (lane.breaker, lane.inflight) for model, lane in lanes.items()} == {
        "echo": ("closed", 1),
        "broken": ("open", 0),
    }
    assert all(0 < lane.limit <= 100 for lane in lanes.values())
