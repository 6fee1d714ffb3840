"""Reads the admissions of the last minutes, once for all shards that are rebuilt together.

Of those that have no outcome nobody knows here whether they run; so each is restored with what it held. An
admission that is appended later was not restored: its dispatcher asks for the hold again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from aiokafka import TopicPartition

from accounting.rebuild.attempts import Buckets, attempt_of
from accounting.rebuild.log import Log
from accounting.rebuild.records import LogRecord
from schemas.codec import MalformedRecord, UnknownSchema, decode_as
from schemas.events import RequestAdmitted
from schemas.headers import SHARD
from schemas.ledger.documents import RestoredRequest
from schemas.ledger.rebuild_calls import RestoredRate
from schemas.ledger.shards import Shards
from schemas.times import MINUTE_MS, Times
from schemas.topics import DISPATCH

__all__ = ["OpenAdmissions", "read_admissions"]

_BUCKETS_FILL_MS: Final = MINUTE_MS
"""Buckets are full again after this; those of larger bursts are a little too full."""


@dataclass(slots=True)
class OpenAdmissions:
    """What the admissions of some shards hold."""

    shards: Shards
    ended: Mapping[int, Collection[object]]
    """Of each shard the requests that have an outcome."""
    now_ms: int
    attempts: dict[int, dict[str, RestoredRequest]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    buckets: dict[int, Buckets] = field(default_factory=lambda: defaultdict(Buckets))
    unknown: dict[int, UnknownSchema] = field(default_factory=dict)
    """Shards of which an admission can be read by a newer version alone."""

    def take(self, record: LogRecord) -> None:
        """Take the next admission. Those of other shards are not decoded."""
        headers = dict(record.headers)
        said = _number_in(headers, SHARD)
        if said is not None and said not in self.ended:
            return
        request_id = headers.get("request_id", b"").decode(errors="replace")
        is_recent = record.timestamp + _BUCKETS_FILL_MS >= self.now_ms
        if said is not None and not is_recent and not self._is_open(said, request_id, headers):
            return
        try:
            admitted = decode_as(record.value, RequestAdmitted)
            attempt = attempt_of(admitted)
        except MalformedRecord:
            return  # No dispatcher runs it.
        except UnknownSchema as error:
            # A newer version says what it holds, and of which organization.
            self.unknown |= dict.fromkeys(self.ended if said is None else (said,), error)
            return
        shard = self.shards.of(admitted.org)
        if shard not in self.ended:
            return
        if is_recent:
            self.buckets[shard].note(admitted, record.timestamp)
        if self._is_open(shard, admitted.request_id, headers) and attempt.deadline_ms > self.now_ms:
            self.attempts[shard].setdefault(admitted.request_id, attempt)

    def of(self, shard: int) -> tuple[Sequence[RestoredRequest], Sequence[RestoredRate]]:
        """What is to be restored of a shard. Raises ``UnknownSchema`` where only a newer version knows."""
        if shard in self.unknown:
            raise self.unknown[shard]
        held = list(self.attempts[shard].values())
        return held, self.buckets[shard].rates(self.now_ms)

    def _is_open(self, shard: int, request_id: str, headers: Mapping[str, bytes]) -> bool:
        deadline_ms = _number_in(headers, "deadline_ms")
        if deadline_ms is not None and deadline_ms <= self.now_ms:
            return False
        return request_id not in self.ended[shard]


def _number_in(headers: Mapping[str, bytes], name: str) -> int | None:
    """The number in a header; ``None`` where none is said."""
    text = headers.get(name, b"")
    return int(text) if text.isdigit() else None


async def read_admissions(log: Log, found: OpenAdmissions, times: Times) -> int:
    """Read what was appended within the longest deadline; returns how many records that were."""
    since_ms, records = found.now_ms - times.deadline_max_ms - MINUTE_MS, 0
    for number in range(found.shards.count):
        partition = TopicPartition(DISPATCH, number)
        at = (await log.bounds([partition]))[partition]
        begin = await log.first_since(partition, since_ms, at.end)
        async for page in log.pages(partition, begin, at.end):
            for record in page:
                found.take(record)
            records += len(page)
    return records
