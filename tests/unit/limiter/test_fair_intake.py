"""The intake: fair by organization, in bounded batches, and honest about what waited too long."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import cast

import pytest

from limiter_worker import fair_intake
from limiter_worker.admission import Admission
from limiter_worker.fair_intake import BATCH_MAX, FairIntake, Pace
from limiter_worker.taken import Taken
from schemas.ledger.errors import LedgerNotReady, LedgerUnavailable
from schemas.runtime.process.clock import Clock
from tests.support.events import accepted, configuration
from tests.support.limiter_parts import FakeConfig, FakeRecord, Limiter, ModelLedger, intake_of


@dataclass
class _SetClock(Clock):
    s: float = 100.0

    def monotonic_s(self) -> float:
        return self.s


def _intake(clock: _SetClock) -> FairIntake:
    return FairIntake(cast("Admission", None), clock, lambda _: False, lambda *_: None)


def _push(intake: FairIntake, count: int, **more: object) -> None:
    limiter = Limiter(ModelLedger(), FakeConfig(configuration()))
    for number in range(count):
        request = accepted(request_id=f"{more.get('org', 'acme')}-{number}", **more)
        (taken,) = limiter.parts().admission.take([limiter.record(request).as_record()])
        intake.push(taken)


def _orgs(batch: list[Taken]) -> list[str]:
    return [taken.accepted.request.org for taken in batch]


def test_a_loud_organization_delays_a_quiet_one_by_less_than_a_batch() -> None:
    """However much of it stands in front."""
    intake = _intake(_SetClock())
    _push(intake, 600, org="loud")
    _push(intake, 3, org="quiet")
    batch = intake.next_batch()

    assert len(batch) == BATCH_MAX
    assert _orgs(batch)[:8].count("quiet") == 3


def test_large_requests_count_for_what_they_are() -> None:
    """Ten times the tokens, a tenth of the turns."""
    intake = _intake(_SetClock())
    _push(intake, 600, org="large", input_tokens_bound=20_000, output_tokens_bound=480)
    _push(intake, 600, org="small", input_tokens_bound=1_000, output_tokens_bound=1_048)
    orgs = _orgs(intake.next_batch())

    assert orgs.count("small") > 8 * orgs.count("large")


def test_what_waited_too_long_is_shed_with_the_time_the_rest_takes() -> None:
    """At the pace of the last seconds."""
    clock = _SetClock()
    intake = _intake(clock)
    intake._pace.note(clock.s, 100)
    _push(intake, 400)
    clock.s += 2.5
    batch = intake.next_batch()

    assert len(batch) == BATCH_MAX
    sheds = {taken.decline for taken in batch}
    (shed,) = sheds
    assert shed is not None
    assert (shed.why, shed.retry_after_ms) == ("overloaded", 10_000)


def test_a_backlog_that_is_shed_goes_batch_by_batch() -> None:
    """Without a pause between them."""
    clock = _SetClock()
    intake = _intake(clock)
    _push(intake, 600)
    clock.s += 2.5
    sizes = [sum(t.decline is not None for t in intake.next_batch()) for _ in range(3)]

    assert sizes == [256, 256, 88]


def test_background_work_is_never_shed() -> None:
    """It has no client that waits on a connection."""
    clock = _SetClock()
    intake = _intake(clock)
    _push(intake, 3, background=True)
    clock.s += 100

    assert [taken.decline for taken in intake.next_batch()] == [None] * 3


def test_time_without_the_ledger_does_not_count() -> None:
    """Nobody is shed because the store was away."""
    clock = _SetClock()
    intake = _intake(clock)
    _push(intake, 3)
    clock.s += 30
    intake._outage_s = clock.s
    clock.s += 1

    assert [taken.decline for taken in intake.next_batch()] == [None] * 3


@pytest.mark.parametrize(
    ("decided", "waiting", "hint_ms"),
    [(1_000, 1, 100), (100, 50, 500), (0, 10, 30_000), (1, 999, 30_000)],
)
def test_a_hint_is_what_the_queue_takes_within_bounds(
    decided: int, waiting: int, hint_ms: int
) -> None:
    """Never less than 100 ms, never more than half a minute."""
    pace = Pace()
    pace.note(10.0, decided)

    assert pace.drain_ms(waiting, 10.5) == hint_ms


async def test_requests_without_an_answer_are_asked_again() -> None:
    """And end once, when the ledger is back."""
    ledger = ModelLedger()
    ledger.failures = {f"r{n}": LedgerUnavailable("away") for n in range(3)}
    limiter = Limiter(ledger, FakeConfig(configuration()))
    now_ms = Clock().now_ms()
    times = {"deadline_ms": now_ms + 60_000, "produce_by_ms": now_ms + 60_000}
    records = [limiter.record(accepted(request_id=f"r{n}", **times)) for n in range(3)]
    async with intake_of(limiter) as intake:
        await intake.handle([record.as_record() for record in records])
        while not ledger.rounds:  # noqa: ASYNC110  # a fake has no event
            await asyncio.sleep(0.01)
        ledger.failures.clear()
        await intake.settled()

    assert [record.finished for record in records] == [1, 1, 1]
    assert len(ledger.rounds) == 2


async def test_a_closed_shard_keeps_no_place_from_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its requests pause beside the batches, however many there are, and the others are decided meanwhile."""
    monkeypatch.setattr(fair_intake, "_LEDGER_PAUSE_S", 60.0)
    ledger = ModelLedger()
    closed = [f"closed{n}" for n in range(8)]
    ledger.failures = dict.fromkeys(closed, LedgerNotReady("being rebuilt"))
    limiter = Limiter(ledger, FakeConfig(configuration()))
    now_ms = Clock().now_ms()
    times = {"deadline_ms": now_ms + 60_000, "produce_by_ms": now_ms + 60_000}

    def record(name: str) -> FakeRecord:
        return limiter.record(accepted(request_id=name, **times))

    open_one = record("open")
    async with asyncio.timeout(10), intake_of(limiter) as intake:
        for number, name in enumerate(closed, start=1):
            await intake.handle([record(name).as_record()])
            while len(ledger.rounds) < number:  # noqa: ASYNC110  # a fake has no event
                await asyncio.sleep(0)
        await intake.handle([open_one.as_record()])
        while not open_one.finished:  # noqa: ASYNC110  # as above
            await asyncio.sleep(0.01)
