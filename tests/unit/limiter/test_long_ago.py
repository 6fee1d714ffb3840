"""What the ledger may have forgotten is looked up in the log before anything is decided again."""

from __future__ import annotations

from limiter_worker.long_ago import LongAgo
from limiter_worker.taken import Taken
from schemas.ids import uuid7
from schemas.times import FULL
from schemas.topics import OUTCOMES
from tests.support.events import accepted, configuration
from tests.support.limiter_parts import FakeConfig, FakeRecord, Limiter, ModelLedger

KEPT_MS = FULL.ledger.terminal_kept_ms


class _Scene:
    """A limiter, the room, and a log that answers as told."""

    def __init__(self, has_ended: bool | None) -> None:
        self.limiter = Limiter(ModelLedger(), FakeConfig(configuration()))
        self.has_ended = has_ended
        self.asked: list[str] = []
        self.handed: list[Taken] = []
        admission = self.limiter.parts().admission
        self.room = LongAgo(self._answer, admission.drop, self.handed.append)

    async def _answer(self, org: str, request_id: str) -> bool | None:
        self.asked.append(request_id)
        return self.has_ended

    def record(self, past_deadline_ms: int) -> FakeRecord:
        now_ms = self.limiter.clock.now_ms()
        made_ms = now_ms - past_deadline_ms - 60_000
        request = accepted(
            request_id=uuid7(made_ms, bytes(10)),
            accepted_at_ms=made_ms,
            deadline_ms=now_ms - past_deadline_ms,
            produce_by_ms=now_ms + 60_000,
        )
        return self.limiter.record(request)

    async def deliver(self, record: FakeRecord) -> list[str]:
        """What admission leaves goes to the room; the topics of what was produced."""
        produced = await self.limiter.handle(record)
        for left in self.limiter.left:
            assert left.why == "forgotten"
            self.room.add(left.taken)
        return [outgoing.topic for outgoing in produced]


async def test_a_copy_of_what_ended_long_ago_has_no_effect() -> None:
    """No second outcome, and the ledger is not asked, so that no key is given away."""
    scene = _Scene(has_ended=True)
    record = scene.record(KEPT_MS + 1)
    assert await scene.deliver(record) == []

    assert await scene.room.look()
    assert record.finished == 1
    assert scene.handed == []
    assert len(scene.room) == 0


async def test_the_first_record_of_a_request_is_decided_however_old() -> None:
    """The log has no outcome of it: it expires, once."""
    scene = _Scene(has_ended=False)
    record = scene.record(KEPT_MS + 1)
    assert await scene.deliver(record) == []

    assert await scene.room.look()
    (taken,) = scene.handed
    parts = scene.limiter.parts()
    assert await parts.admission.admit([taken]) == []
    await parts.settled()
    (outcome,) = scene.limiter.producer.events(OUTCOMES)
    assert getattr(outcome, "status", None) == "expired"
    assert record.finished == 1


async def test_a_log_that_cannot_be_read_is_asked_again() -> None:
    """Nothing is guessed meanwhile, and the record keeps its offset."""
    scene = _Scene(has_ended=None)
    record = scene.record(KEPT_MS + 1)
    await scene.deliver(record)

    assert not await scene.room.look()
    assert (record.finished, len(scene.room), scene.handed) == (0, 1, [])
    scene.has_ended = True
    assert await scene.room.look()
    assert record.finished == 1


async def test_what_the_ledger_must_still_know_is_decided_at_once() -> None:
    """The log is read for nobody whose mark cannot have been dropped."""
    scene = _Scene(has_ended=True)
    topics = await scene.deliver(scene.record(KEPT_MS - 60_000))

    assert OUTCOMES in topics
    assert scene.asked == []


async def test_revoked_records_are_forgotten() -> None:
    """Their next owner reads them again."""
    scene = _Scene(has_ended=True)
    await scene.deliver(scene.record(KEPT_MS + 1))
    await scene.room.forget()

    assert len(scene.room) == 0
