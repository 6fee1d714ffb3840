"""A shard of the ledger that is closed: its requests wait apart, few are asked, and all hear of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import msgspec

from limiter_worker.admission import Left
from limiter_worker.closed_shards import ClosedShards
from limiter_worker.taken import Taken
from schemas.ledger.errors import LedgerNotReady
from schemas.runtime.process.clock import Clock
from tests.support.events import accepted, configuration
from tests.support.limiter_parts import FakeConfig, Limiter, ModelLedger, intake_of

_SHARDS = {"near": 0, "far": 1}


@dataclass
class _Scene:
    """What waits for a shard, and what is asked for again."""

    asked: list[Taken] = field(default_factory=list)
    limiter: Limiter = field(
        default_factory=lambda: Limiter(ModelLedger(), FakeConfig(configuration()))
    )
    closed: ClosedShards = field(init=False)

    def __post_init__(self) -> None:
        self.closed = ClosedShards(_SHARDS.__getitem__, Clock(), self.asked.append)

    def taken(self, org: str, count: int = 1, deadline_in_ms: int = 60_000) -> list[Taken]:
        deadline_ms = Clock().now_ms() + deadline_in_ms
        requests = [
            accepted(request_id=f"{org}-{n}", org=org, deadline_ms=deadline_ms)
            for n in range(count)
        ]
        records = [self.limiter.record(each).as_record() for each in requests]
        return self.limiter.parts().admission.take(records)

    def left(self, *taken: Taken) -> None:
        self.closed.heed(taken, [Left(each, "closed") for each in taken])

    def orgs(self) -> list[str]:
        return [taken.accepted.request.org for taken in self.asked]


def test_few_of_each_shard_are_asked_again() -> None:
    """However many wait, and whichever shard has more."""
    scene = _Scene()
    scene.left(*scene.taken("near", 300), *scene.taken("far", 2))
    scene.closed.ask()

    assert (scene.orgs().count("near"), scene.orgs().count("far")) == (4, 2)
    assert len(scene.closed) == 296


def test_the_first_that_is_answered_frees_all_of_its_shard() -> None:
    """The other shard stays closed."""
    scene = _Scene()
    near = scene.taken("near", 9)
    scene.left(*near, *scene.taken("far", 9))
    scene.closed.heed(near[:1], [])

    assert scene.orgs() == ["near"] * 9
    assert len(scene.closed) == 9


def test_one_whose_deadline_passed_is_asked_for_so_that_its_client_hears() -> None:
    """Once: then it waits like the others."""
    scene = _Scene()
    (late,) = scene.taken("near", deadline_in_ms=-1)
    scene.left(*scene.taken("near", 4), late, msgspec.structs.replace(late, is_told=True))
    scene.closed.ask()

    assert scene.asked[-1] is late
    assert len(scene.asked) == 5


async def test_what_waits_is_forgotten_with_its_partitions() -> None:
    """Whoever owns them next reads it again."""
    scene = _Scene()
    scene.left(*scene.taken("near", 9))
    await scene.closed.forget()
    scene.closed.ask()

    assert scene.asked == []


async def test_a_closed_shard_holds_up_nobody_else() -> None:
    """More of its requests than all batches have room for: a neighbour is decided at once, and they are when
    it is open again."""
    ledger = ModelLedger()
    limiter = Limiter(ledger, FakeConfig(configuration()))
    now_ms = Clock().now_ms()
    times = {"deadline_ms": now_ms + 60_000, "produce_by_ms": now_ms + 60_000}
    names = [f"far-{n}" for n in range(1_500)]
    ledger.failures = {name: LedgerNotReady("closed") for name in names}
    far = [limiter.record(accepted(request_id=name, **times)) for name in names]
    near = limiter.record(accepted(request_id="near", **times))
    async with intake_of(limiter) as intake:
        await intake.handle([record.as_record() for record in far])
        await asyncio.sleep(1.0)
        asked = sum(map(len, ledger.rounds))
        await intake.handle([near.as_record()])
        async with asyncio.timeout(2):
            while not near.finished:  # noqa: ASYNC110  # a fake has no event
                await asyncio.sleep(0.005)
        ledger.failures.clear()
        async with asyncio.timeout(5):
            while not all(record.finished for record in far):  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    assert len(names) <= asked < len(names) + 50
    assert [record.finished for record in far] == [1] * len(far)
