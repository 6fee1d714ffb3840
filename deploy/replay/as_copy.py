"""A replay as a copy: appends the records of a range to another topic, each once, with its origin in its headers.

A copy that was killed looks at the end of its target for what it appended after its last commit, and goes on behind that.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from accounting.rebuild.records import LogRecord
from deploy.replay.checkpoint import Checkpoint
from deploy.replay.origin import Placed, origin_in, placed
from deploy.replay.pace import Pace, read_plan
from deploy.replay.plan import Plan, Source, partitions_of
from deploy.replay.problem import ReplayProblem
from schemas.codec import UNDECODABLE, decode
from schemas.events import RecordRef
from schemas.headers import REPLAY_ID
from schemas.outgoing import Outgoing, copied_record
from schemas.runtime.kafka.access import client_options
from schemas.runtime.kafka.produce import Producer
from schemas.topics import MAX_RECORD_BYTES, TOPICS

__all__ = ["CopyReplay", "check_target"]

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,249}", re.ASCII)
_DELIVERED_WITHIN_S: Final = 60.0
_CREATED_WITHIN_MS: Final = 20_000
_KEPT_MS: Final = 7 * 24 * 3_600_000
"""So long a topic keeps its records that is made here."""


def check_target(source: str, target: str | None) -> str:
    """The name of the topic to copy to. Raises ``ReplayProblem`` for one that processes read, or that is none."""
    if target is None:
        fix = "add --to TOPIC; it is made where it does not exist"
        raise ReplayProblem("a copy needs a topic to go to", "there is no --to", fix, is_usage=True)
    if not _NAME.fullmatch(target) or target in (".", "..") or target.startswith("__"):
        why = "a name has letters, digits, dots, dashes and underscores, and is not Kafka's own"
        raise ReplayProblem(
            f"{target!r} is no topic to copy to", why, "name another", is_usage=True
        )
    if target == source or target in {topic.name for topic in TOPICS}:
        raise ReplayProblem(
            f"nothing is copied into {target}",
            "it is live, or it is what is read: its readers would do everything again",
            "name another topic; to try dead letters again use --effect retry-dead-letters",
            is_usage=True,
        )
    return target


@dataclass(slots=True)
class CopyReplay:
    """One such replay."""

    source: Source
    plan: Plan
    brokers: str
    target: str
    replay_id: str
    checkpoint: Checkpoint
    pace: Pace
    _producer: Producer = field(init=False)
    _there: set[tuple[int, int]] = field(default_factory=set)
    """Origins of records that were appended before a kill, and after the commit before it."""

    async def run(self) -> dict[str, Any]:
        """Copy what was not copied before, and compare. Raises ``KafkaError`` and ``Transient``."""
        partitions = await self._make_target()
        self._producer = Producer(self.brokers, "replay-copy")
        try:
            await self._producer.start((self.target,))
            await self._find_uncommitted(partitions)
            await self._copy(partitions)
        finally:
            await self._producer.stop()
        return await self._compared(partitions)

    async def _make_target(self) -> int:
        """How many partitions the target has; those of the source, where it is made."""
        known = await partitions_of(self.brokers, self.target)
        if known:
            return known
        admin = AIOKafkaAdminClient(**client_options(self.brokers))
        await admin.start()
        try:
            settings = {
                "retention.ms": str(_KEPT_MS),
                "max.message.bytes": str(MAX_RECORD_BYTES),
                "message.timestamp.type": "LogAppendTime",
            }
            new = NewTopic(self.target, self.source.partitions, 1, topic_configs=settings)
            await admin.create_topics([new], timeout_ms=_CREATED_WITHIN_MS)
        finally:
            await admin.close()
        return self.source.partitions

    async def _find_uncommitted(self, partitions: int) -> None:
        """Learn what a process that was killed had appended and not noted; note where this copy begins."""
        ends = await self._ends(partitions)
        noted = self.checkpoint.fact("target ends")
        if noted is None:
            self._note("target begins", ends)
            self._note("target ends", ends)
            self.checkpoint.commit({})
            return
        begins = msgspec.json.decode(noted, type=dict[int, int])
        async for record in self._own(begins, ends):
            if (origin := origin_in(record.headers)) is not None:
                self._there.add((origin.partition, origin.offset))
                self._sum_up(record.key, record.value)

    def _note(self, name: str, offsets: dict[int, int]) -> None:
        self.checkpoint.note(name, msgspec.json.encode(offsets).decode())

    async def _own(self, begins: dict[int, int], ends: dict[int, int]) -> AsyncIterator[LogRecord]:
        """The records of this replay in a stretch of the target."""
        for number, end in ends.items():
            partition = TopicPartition(self.target, number)
            async for page in self.source.log.pages(partition, begins.get(number, 0), end):
                for record in page:
                    if dict(record.headers).get(REPLAY_ID) == self.replay_id.encode():
                        yield record

    async def _ends(self, partitions: int) -> dict[int, int]:
        wanted = [TopicPartition(self.target, number) for number in range(partitions)]
        return {p.partition: at.end for p, at in (await self.source.log.bounds(wanted)).items()}

    async def _copy(self, partitions: int) -> None:
        places = self.checkpoint.places()
        async for number, piece in read_plan(
            self.source.log, self.plan, self.checkpoint, self.pace
        ):
            wanted = [placed(each, self.plan.topic, number) for each in self._wanted(number, piece)]
            self.checkpoint.count("selected", len(wanted))
            new = [each for each in wanted if (each.partition, each.offset) not in self._there]
            records = [self._outgoing(each, partitions) for each in new]
            await self._producer.deliver(records, self.pace.now_s + _DELIVERED_WITHIN_S)
            for record in records:
                self._sum_up(record.key, record.value)
            places[number] = piece[-1].offset + 1
            self._note("target ends", await self._ends(partitions))
            self.checkpoint.commit(places)

    def _wanted(self, number: int, piece: Sequence[LogRecord]) -> list[LogRecord]:
        if self.plan.selection.is_all:
            return list(piece)
        wanted = []
        for record in piece:
            try:
                if self.plan.selection.wants(decode(record.value)):
                    wanted.append(record)
            except UNDECODABLE as error:
                self.checkpoint.name_undecodable(number, record.offset, str(error))
        return wanted

    def _outgoing(self, record: Placed, partitions: int) -> Outgoing:
        at = RecordRef(topic=record.topic, partition=record.partition, offset=record.offset)
        there = record.partition if self.source.partitions == partitions else None
        return copied_record(
            self.target, record.key or b"", record.value, record.headers, there,
            of=at, appended_at_ms=record.timestamp, replay_id=self.replay_id,
        )  # fmt: skip

    def _sum_up(self, key: bytes | None, value: bytes | None) -> None:
        self.checkpoint.count("copied")
        self.checkpoint.count("copied_bytes", len(value or b""))
        self.checkpoint.count("copied_sum", _sum_of(key, value))

    async def _compared(self, partitions: int) -> dict[str, Any]:
        """What was appended beside what stands in the target under the id of this replay."""
        begins = msgspec.json.decode(
            self.checkpoint.fact("target begins") or "{}", type=dict[int, int]
        )
        found: Counter[str] = Counter()
        async for record in self._own(begins, await self._ends(partitions)):
            found["records"] += 1
            found["bytes"] += len(record.value or b"")
            found["sum"] += _sum_of(record.key, record.value)
        counts = self.checkpoint.counts()
        told = {name: counts.get(f"copied{key}", 0) for name, key in _COPIED.items()}
        differing = [name for name in _COPIED if told[name] != found[name]]
        totals = [
            {"measure": n, "copied": told[n], "there": found[n]} for n in ("records", "bytes")
        ]
        return {"to": self.target, "difference": len(differing), "totals": totals}


_COPIED: Final = {"records": "", "bytes": "_bytes", "sum": "_sum"}


def _sum_of(key: bytes | None, value: bytes | None) -> int:
    """What tells one content from another where contents are added up."""
    return zlib.crc32(value or b"", zlib.crc32(key or b""))
