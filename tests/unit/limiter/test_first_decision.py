"""A copy of a request follows the first decision on it, whatever has changed between the two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from limiter_worker.limits import UNAVAILABLE
from schemas.config_state import Snapshot
from schemas.entities import Budget, Limits, Model, Quota, Target
from schemas.events import RequestFinished
from schemas.failures import Failure
from schemas.ledger import answers
from schemas.ledger.documents import Admit, Decline, Finish, Reap, Start
from schemas.ledger.model.attempts import Attempt
from schemas.runtime.process.clock import Clock
from schemas.topics import DEFERRED_1S, DISPATCH, OUTCOMES
from tests.support.events import accepted, configuration
from tests.support.limiter_parts import FakeConfig, FakeRecord, Limiter, ModelLedger

_MIDNIGHT_MS = 1_700_006_400_000
_MINUTE_MS = 60_000


class _SetClock(Clock):
    """Ten seconds before midnight, until it is moved."""

    ms = _MIDNIGHT_MS - 10_000

    def now_ms(self) -> int:
        return self.ms

    def happened_ms(self, appended_at_ms: int) -> int:
        return appended_at_ms


class _Desk:
    """A limiter beside the ledger's model, and one request."""

    def __init__(self, config: Snapshot | None = None) -> None:
        self.clock = _SetClock()
        self.ledger = ModelLedger(self.clock)
        self.limiter = Limiter(self.ledger, FakeConfig(config or _configured()), clock=self.clock)

    def request(self, request_id: str = "r1", **more: Any) -> FakeRecord:
        fields = {
            "request_id": request_id,
            "accepted_at_ms": self.clock.ms,
            "deadline_ms": self.clock.ms + _MINUTE_MS,
            "produce_by_ms": self.clock.ms + 5_000,
        }
        return self.limiter.record(accepted(**(fields | more)))

    async def decide(self, record: FakeRecord) -> list[tuple[str, bytes | None]]:
        """Topic and value of what follows from the record; audit events left out."""
        produced = await self.limiter.handle(record)
        return [(r.topic, r.value) for r in produced if r.topic in (DISPATCH, OUTCOMES)]

    def run(self, request_id: str = "r1") -> int:
        start = Start(org="acme", req=request_id, owner="d", lease_ms=9_000)
        fence = self.ledger.model.start(start, self.clock.ms * 1_000)
        assert isinstance(fence, answers.Fence)
        return fence.fence


def _configured(**more: Any) -> Snapshot:
    return configuration(
        org=Limits(budgets=(Budget("5", "day"),), quotas=(Quota(9, "requests", "day"),)), **more
    )


def _dear() -> Model:
    return Model(
        backends=(Target(backend="b1"),),
        input_usd_per_mtok="20",
        cached_input_usd_per_mtok="5",
        output_usd_per_mtok="60",
    )


def _without(kind: str) -> Snapshot:
    missing = {
        "model": replace(_configured(), models={}, versions={("model", "echo"): 9}),
        "organization": replace(
            _configured(), organizations={}, versions={("organization", "acme"): 9}
        ),
        "key": replace(_configured(), keys={}, versions={("key", "key_a"): 9}),
    }
    return missing[kind]


_CHANGES: dict[str, Callable[[_Desk], object]] = {
    "nothing": lambda _: None,
    "the price is ten times as high": lambda d: _set(d, _configured(model=_dear())),
    "the price was removed": lambda d: _set(
        d, _configured(model=Model(backends=(Target(backend="b1"),)))
    ),
    "the budget is lower than what is held": lambda d: _set(
        d, configuration(org=Limits(budgets=(Budget("0.000001", "day"),)))
    ),
    "the budget is higher": lambda d: _set(
        d, configuration(org=Limits(budgets=(Budget("500", "day"),)))
    ),
    "the budget was deleted": lambda d: _set(d, configuration()),
    "the budget is for another period": lambda d: _set(
        d, configuration(org=Limits(budgets=(Budget("5", "month"),)))
    ),
    "its model was removed": lambda d: _set(d, _without("model")),
    "its organization was removed": lambda d: _set(d, _without("organization")),
    "its key was revoked": lambda d: _set(d, _without("key")),
    "its key cannot be read here": lambda d: _set(
        d, replace(_configured(), closed=frozenset({("key", "key_a")}))
    ),
    "the configuration moved on": lambda d: _set(d, replace(_configured(), offset=99)),
    "its period is over": lambda d: setattr(d.clock, "ms", _MIDNIGHT_MS + 1),
    "its deadline passed": lambda d: setattr(d.clock, "ms", d.clock.ms + 2 * _MINUTE_MS),
    "a dispatcher has begun": lambda d: d.run(),
}


def _set(desk: _Desk, config: Snapshot) -> None:
    desk.limiter.config.snapshot = config


@pytest.mark.parametrize("change", _CHANGES.values(), ids=_CHANGES.keys())
async def test_a_redelivered_admission_makes_the_same_bytes(
    change: Callable[[_Desk], object],
) -> None:
    """Holds, price, configuration and rates as they were agreed to, not as they would be now."""
    desk = _Desk()
    record = desk.request()
    first = await desk.decide(record)
    change(desk)

    assert [topic for topic, _ in first] == [DISPATCH]
    assert await desk.decide(record) == first


_FULL: dict[str, Limits] = {
    "a budget": Limits(budgets=(Budget("0.000001", "day"),)),
    "a rate": Limits(requests_per_s=3, burst=1),
    "a concurrency": Limits(concurrency=1),
}


@pytest.mark.parametrize("full", _FULL.values(), ids=_FULL.keys())
@pytest.mark.parametrize("change", _CHANGES.values(), ids=_CHANGES.keys())
async def test_a_redelivered_refusal_makes_the_same_bytes(
    change: Callable[[_Desk], object], full: Limits
) -> None:
    """Also where the change would have admitted it, or refused it for another reason."""
    desk = _Desk(configuration(org=full))
    await desk.decide(desk.request("r0"))
    record = desk.request()
    first = await desk.decide(record)
    if change is not _CHANGES["a dispatcher has begun"]:
        change(desk)

    assert [topic for topic, _ in first] == [OUTCOMES]
    assert await desk.decide(record) == first


@pytest.mark.parametrize(
    "decline",
    [
        Decline(why="overloaded", retry_after_ms=900),
        UNAVAILABLE,
        Decline(why="rolled"),
        Decline(why="revoked"),
    ],
    ids=lambda decline: decline.why,
)
async def test_an_end_by_the_gateway_itself_is_a_decision_like_any_other(decline: Decline) -> None:
    """Whatever stood against it is gone when the copy comes: it is not admitted."""
    desk = _Desk()
    record = desk.request()
    parts = desk.limiter.parts()
    (taken,) = parts.admission.take([record.as_record()])
    await parts.admission.admit([msgspec.structs.replace(taken, decline=decline)])
    await parts.settled()
    (first,) = [(r.topic, r.value) for r in desk.limiter.producer.produced if r.topic == OUTCOMES]

    assert await desk.decide(record) == [first]
    assert desk.ledger.model.limits.balances == {}


@pytest.mark.parametrize(
    "change",
    [
        "its model was removed",
        "its organization was removed",
        "its key was revoked",
        "the price was removed",
        "its deadline passed",
    ],
)
async def test_an_end_without_limits_is_a_decision_like_any_other(change: str) -> None:
    """What came back meanwhile does not admit it: 401, 403, 404 and 504 stay what they were."""
    desk = _Desk()
    record = desk.request()
    now_ms = desk.clock.ms
    _CHANGES[change](desk)
    first = await desk.decide(record)
    desk.limiter.config.snapshot, desk.clock.ms = _configured(), now_ms

    assert [topic for topic, _ in first] == [OUTCOMES]
    assert await desk.decide(record) == first


async def test_a_copy_that_came_too_late_does_not_contradict_the_admission() -> None:
    """Ingress produced the request twice; the second record arrived after it had given up."""
    desk = _Desk()
    first, late = desk.request(), desk.request()
    late.timestamp_ms = desk.clock.ms + 20_000
    await desk.decide(first)
    (again,) = await desk.decide(late)

    assert again[0] == DISPATCH
    assert desk.limiter.producer.events(OUTCOMES) == []


@pytest.mark.parametrize("is_produced", [True, False])
async def test_a_copy_that_was_given_up_waits_for_its_successor(*, is_produced: bool) -> None:
    """The key was taken over meanwhile: its copy decides. One that never comes is nobody's loss: whoever
    took over died, or was refused before the log, and the first record ends at its deadline."""
    desk = _Desk()
    late = desk.request()
    late.timestamp_ms = desk.clock.ms + 20_000
    successor = desk.request(produce_by_ms=desk.clock.ms + 30_000)
    desk.ledger.model.attempts["acme", "r1"] = Attempt("", incarnation_ms=desk.clock.ms + 30_000)
    assert await desk.decide(late) == []
    assert [left.why for left in desk.limiter.left] == ["deferred"]
    assert late.finished == 0
    first = await desk.decide(successor) if is_produced else []

    desk.clock.ms += _MINUTE_MS
    told = await desk.decide(late)
    assert late.finished == 1
    assert [topic for topic, _ in first] == ([DISPATCH] if is_produced else [])
    assert [topic for topic, _ in told] == [DISPATCH if is_produced else OUTCOMES]


@pytest.mark.parametrize("end", ["finished", "voided", "abandoned"])
async def test_a_copy_of_what_is_over_has_no_effect(end: str) -> None:
    """Its outcome is somebody else's to write."""
    desk = _Desk()
    record = desk.request()
    await desk.decide(record)
    if end == "finished":
        finish = Finish(org="acme", req="r1", fence=desk.run(), actual={})
        desk.ledger.model.finish(finish, b"outcome", desk.clock.ms * 1_000)
    elif end == "abandoned":
        desk.run()
    desk.clock.ms += 5 * _MINUTE_MS
    for _ in range(3):
        desk.ledger.model.reap(Reap(limit=9), desk.clock.ms * 1_000)
        desk.clock.ms += _MINUTE_MS

    assert await desk.decide(record) == []


async def test_a_deferred_copy_makes_the_same_admission_as_its_first_record() -> None:
    """Both came back from the tier after a crash; one hold, one set of bytes."""
    desk = _Desk(configuration(org=Limits(concurrency=1, on_limit="defer")))
    await desk.decide(desk.request("r0"))
    original = desk.request()
    await desk.decide(original)
    await desk.decide(original)
    waits = [r for r in desk.limiter.producer.produced if r.topic == DEFERRED_1S]
    finish = Finish(org="acme", req="r0", fence=desk.run("r0"), actual={})
    desk.ledger.model.finish(finish, b"outcome", desk.clock.ms * 1_000)
    copies = [await desk.decide(desk.limiter.delivered(wait)) for wait in waits]

    assert len(copies) == 2
    assert copies[0] == copies[1] == await desk.decide(original)


@pytest.mark.parametrize("off_ms", [-600_000, -2_000, 2_000, 600_000])
async def test_a_limiter_whose_clock_is_off_at_midnight_admits_in_the_ledgers_period(
    off_ms: int,
) -> None:
    """It asks again at once with the ledger's time, and nobody hears 503."""
    desk = _Desk()
    desk.clock.ms = _MIDNIGHT_MS + (1_000 if off_ms < 0 else -1_000)
    record = desk.request()
    desk.limiter.clock = _Off(desk.clock, off_ms)
    await desk.decide(record)

    (event,) = desk.limiter.producer.events(DISPATCH)
    days = {hold.key for hold in event.holds if ":2023-11-" in hold.key}  # type: ignore[union-attr]
    today = "2023-11-15" if off_ms < 0 else "2023-11-14"
    assert days == {f"b:org/nano_usd:{today}", f"b:org/requests:{today}"}


class _Off(Clock):
    def __init__(self, right: Clock, off_ms: int) -> None:
        self.right, self.off_ms = right, off_ms

    def now_ms(self) -> int:
        return self.right.now_ms() + self.off_ms


class _Rolls(ModelLedger):
    async def admit_many(self, batch: Sequence[Admit]) -> list[answers.AdmitAnswer | Failure]:
        if any(document.decline for document in batch):
            return await super().admit_many(batch)
        return [answers.Rolled(id="x", now_ms=self.clock.now_ms()) for _ in batch]


async def test_a_period_that_never_comes_is_an_end_through_the_ledger() -> None:
    """A ledger whose periods are not ours: 503 after a few tries, and no copy is admitted."""
    desk = _Desk()
    record = desk.request()
    rolls = _Rolls(desk.clock, desk.ledger.model)
    desk.limiter.ledger = rolls
    first = await desk.decide(record)
    desk.limiter.ledger = desk.ledger

    (outcome,) = desk.limiter.producer.events(OUTCOMES)
    assert isinstance(outcome, RequestFinished)
    assert (outcome.status, outcome.http_status) == ("expired", 503)
    assert await desk.decide(record) == first
