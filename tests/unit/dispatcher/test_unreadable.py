"""What an admission that nobody can read still tells: a header, and with it the ledger and the log."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import SimpleNamespace
from typing import Any, cast

import pytest

from dispatcher.settlement.closing import Closing
from dispatcher.settlement.unreadable import Unreadable
from dispatcher.work import AdmittedRequest
from schemas.codec import encode
from schemas.events import RecordRef
from schemas.hold_facts import info_of
from schemas.ledger import keys
from schemas.ledger.shards import Shards
from schemas.runtime.kafka.consume.dead_letters import DeadLetters
from schemas.runtime.kafka.consume.records import Record
from schemas.runtime.kafka.record_reader import RecordGone, RecordReader
from schemas.runtime.process.telemetry import Metrics
from schemas.runtime.valkey.store import Store, StoreUnavailable
from schemas.topics import DISPATCH
from tests.support.events import ACCEPTED_AT, accepted
from tests.support.limiter_parts import FakeProducer, FakeRecord

_REQUEST = accepted(org="a|b")
_EXPIRING = keys.of_shard(1, keys.EXPIRING)
"""Where it waits to be run; the other shards are empty."""


@dataclass
class _Store:
    """As much of a store as is asked: what is on hold, in pages of one, and one attempt."""

    state: bytes = b"RESERVED"
    members: list[bytes] = field(
        default_factory=lambda: [b"zeta|other", f"a|b|{_REQUEST.request_id}".encode()]
    )
    is_away: bool = False

    async def call(self, *command: Any) -> Any:
        if self.is_away:
            raise StoreUnavailable("away")
        match command:
            case ("ZSCAN", name, cursor, "MATCH", pattern, "COUNT", _):
                if name != _EXPIRING:
                    return [b"0", []]
                at = int(cursor)
                page = [m for m in self.members[at : at + 1] if _matches(m, pattern)]
                following = at + 1 if at + 1 < len(self.members) else 0
                return [b"%d" % following, [part for m in page for part in (m, b"1")]]
            case ("HMGET", name, "state", "info"):
                assert name == keys.attempt(1, "a|b", _REQUEST.request_id)
                return [self.state, info_of(_REQUEST, ACCEPTED_AT).encoded().encode()]
        raise AssertionError(command)


def _matches(member: bytes, pattern: bytes) -> bool:
    return fnmatchcase(member.decode(), pattern.decode())


@dataclass
class _Log:
    value: bytes | None

    async def read(self, ref: RecordRef, within_s: float) -> bytes:
        assert ref == ACCEPTED_AT
        if self.value is None:
            raise RecordGone("gone")
        return self.value


async def _ended(
    store: _Store, named: bytes = _REQUEST.request_id.encode(), in_log: bytes | None = None
) -> tuple[list[AdmittedRequest], int]:
    """Whom it ended, and how many dead letters it wrote."""
    ended: list[AdmittedRequest] = []

    async def end_broken(job: AdmittedRequest, record: Record) -> None:
        ended.append(job)

    producer = FakeProducer()
    unreadable = Unreadable(
        cast("Store", store),
        lambda: Shards(3),
        cast("RecordReader", _Log(in_log)),
        cast("Closing", SimpleNamespace(end_broken=end_broken)),
        DeadLetters(cast("Any", producer), deque(maxlen=1)),
        Metrics(),
    )
    record = FakeRecord(b"garbage", topic=DISPATCH, headers={"request_id": named})
    await unreadable.end(record.as_record(), ValueError("odd"))
    return ended, len(producer.produced)


async def test_the_request_that_its_header_names_is_ended() -> None:
    """As it was accepted; whose it is, what is on hold tells."""
    ended, letters = await _ended(_Store(), in_log=encode(_REQUEST))

    assert [(job.request, job.admitted.accepted_ref) for job in ended] == [(_REQUEST, ACCEPTED_AT)]
    assert letters == 1


@pytest.mark.parametrize(
    "store",
    [_Store(state=b"RUNNING"), _Store(members=[]), _Store(is_away=True)],
    ids=["runs", "not on hold", "ledger away"],
)
async def test_what_does_not_wait_to_be_run_is_not_ended(store: _Store) -> None:
    """The record is kept in any case."""
    assert await _ended(store, in_log=encode(_REQUEST)) == ([], 1)


@pytest.mark.parametrize("named", [b"", b"*", b"\xff", b"x" * 65])
async def test_a_header_that_is_no_id_names_nobody(named: bytes) -> None:
    """Anybody could have written it."""
    assert await _ended(_Store(), named, encode(_REQUEST)) == ([], 1)


@pytest.mark.parametrize("in_log", [None, b"\x01", b"\x00\x00\x00\x03\xe7"])
async def test_without_the_request_itself_the_reaper_ends_it(in_log: bytes | None) -> None:
    """Its record is gone, or cannot be read here."""
    assert await _ended(_Store(), in_log=in_log) == ([], 1)
