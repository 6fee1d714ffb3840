"""Writes the configuration: under the lease, having read the log to its end, one entry at a time.

Invariant: an entry is produced only while this process holds the lease and its own view contains
every earlier entry, so comparing versions is a real compare-and-set.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from aiokafka import TopicPartition

from ingress.admin.config import lease
from ingress.admin.config.change import Change, decide
from ingress.admin.deps import AdminDeps
from ingress.admin.fleet.propagation import wait_until_applied
from ingress.admin.http.refusal import Refusal
from ingress.admin.log.audit_trail import record_audit
from schemas.config_references import Identity
from schemas.config_signing import signed
from schemas.config_state import ADOPTION
from schemas.errors import ErrorCode
from schemas.events import AuditRecorded, ConfigEntry, RecordRef
from schemas.outgoing import config_record
from schemas.overrides import OVERRIDES
from schemas.runtime.kafka.free_consumer import free_consumer
from schemas.runtime.process.clock import random_bytes
from schemas.runtime.valkey.store import StoreError, StoreUnavailable
from schemas.topics import CONFIG

_LEASE_DEADLINE_S = 5.0
# Together below the ten seconds of the lease, so that nobody else writes meanwhile.
_END_DEADLINE_S = 2.0
_READ_DEADLINE_S = 2.0
_PRODUCE_DEADLINE_S = 3.0
_APPLY_DEADLINE_S = 2.0
_SIGNED_AT_ONCE = 500
_APPLIED_DEADLINE_S = 10.0
"""As long as a process counts as living after its last report."""


@dataclass(frozen=True, slots=True)
class Written:
    """An entry that is in the log, and where."""

    entry: ConfigEntry
    offset: int
    is_applied: bool = True
    """Whether every ingress that lives has it: who was told of it may use it at once."""


class ConfigWriter:
    """One per process; concurrent writes take turns by the lease."""

    def __init__(self, deps: AdminDeps) -> None:
        self._deps = deps

    async def write(self, change: Change, action: str) -> Written | Refusal:
        """Make the change and record it for the auditor under ``action``.

        Raises ``StoreUnavailable``, ``ProduceFailed``, ``KafkaError`` or ``TimeoutError``; then the
        change may or may not have been made.
        """
        token = random_bytes(16).hex()
        if not await lease.acquire(self._deps.ledger_store, token, _LEASE_DEADLINE_S):
            return Refusal(ErrorCode.SERVICE_UNAVAILABLE, "somebody else is writing; try again")
        try:
            written = await self._write_alone(change)
        finally:
            await lease.release(self._deps.ledger_store, token)
        if isinstance(written, Written):
            await record_audit(self._deps.producer, audit_of(written.entry, action))
            return replace(written, is_applied=await self._is_applied(written.offset))
        return written

    async def adopt(self, ends_below: int, actor: str) -> Written | Refusal:
        """Accept a log that ends below ``ends_below``, which was in force somewhere; fails as ``write``."""
        token = random_bytes(16).hex()
        if not await lease.acquire(self._deps.ledger_store, token, _LEASE_DEADLINE_S):
            return Refusal(ErrorCode.SERVICE_UNAVAILABLE, "somebody else is writing; try again")
        try:
            now_ms = self._deps.clock.now_ms()
            entry = adoption_of(ends_below, now_ms, actor)
            place = await self._produce(entry)
        finally:
            await lease.release(self._deps.ledger_store, token)
        written = Written(entry, place.offset)
        await record_audit(self._deps.producer, audit_of(written.entry, "admin.config_adopt"))
        return written

    async def sign(self) -> int | Refusal:
        """Write again, signed, every entry that is in force; how many there were. Fails as ``write``.

        A part of them at a time, each under the lease and read to the log's end: what somebody wrote meanwhile is not
        written over.
        """
        names = sorted((entry.kind, entry.id) for entry in self._deps.config.entries())
        for first in range(0, len(names), _SIGNED_AT_ONCE):
            refused = await self._sign_some(names[first : first + _SIGNED_AT_ONCE])
            if refused is not None:
                return refused
        return len(names)

    async def _sign_some(self, names: Sequence[Identity]) -> Refusal | None:
        token = random_bytes(16).hex()
        if not await lease.acquire(self._deps.ledger_store, token, _LEASE_DEADLINE_S):
            return Refusal(ErrorCode.SERVICE_UNAVAILABLE, "somebody else is writing; try again")
        try:
            if (refused := await self._read_to_end()) is not None:
                return refused
            entries = [self._deps.config.entry(*name) for name in names]
            async with asyncio.timeout(_PRODUCE_DEADLINE_S):
                await asyncio.gather(*(self._produce(entry) for entry in entries if entry))
        finally:
            await lease.release(self._deps.ledger_store, token)
        return None

    async def _read_to_end(self) -> Refusal | None:
        """Have all that the log has; or say why not."""
        config = self._deps.config
        if config.alarm is not None:
            return Refusal(ErrorCode.SERVICE_UNAVAILABLE, config.alarm)
        async with asyncio.timeout(_END_DEADLINE_S):
            last_offset = await self._last_offset()
        config.note_known(last_offset)
        if not await config.wait_for(last_offset, _READ_DEADLINE_S):
            return Refusal(
                ErrorCode.SERVICE_UNAVAILABLE,
                f"this process is at offset {config.snapshot.offset} of the configuration, "
                f"the log at {last_offset}",
            )
        return None

    async def _write_alone(self, change: Change) -> Written | Refusal:
        config = self._deps.config
        if (refused := await self._read_to_end()) is not None:
            return refused
        # Judging the whole configuration takes long when it is large, and requests must not wait.
        now_ms = self._deps.clock.now_ms()
        entry = await asyncio.to_thread(decide, config.entries(), change, now_ms)
        if isinstance(entry, Refusal):
            return entry
        place = await self._produce(entry)
        config.note_known(place.offset)
        is_applied = await config.wait_for(place.offset, _APPLY_DEADLINE_S)
        if is_applied and config.entry(entry.kind, entry.id) != entry:
            return Refusal(ErrorCode.VERSION_CONFLICT, "somebody else wrote it meanwhile")
        return Written(entry, place.offset)

    async def _is_applied(self, offset: int) -> bool:
        """Whether every ingress has it within some seconds; what is not known is not so."""
        store, clock = self._deps.ledger_store, self._deps.clock
        try:
            return await wait_until_applied(store, clock, "ingress", offset, _APPLIED_DEADLINE_S)
        except (StoreUnavailable, StoreError):
            return False

    async def _produce(self, entry: ConfigEntry) -> RecordRef:
        delivered = self._deps.producer.send(signed(config_record(entry), self._deps.signer))
        return await asyncio.wait_for(delivered, _PRODUCE_DEADLINE_S)

    async def _last_offset(self) -> int:
        partition = TopicPartition(CONFIG, 0)
        async with free_consumer(self._deps.settings.kafka_brokers) as consumer:
            # Makes it ask where the partition is; else it finds out that it does not know, and asks a tenth of a second later.
            consumer.assign([partition])
            ends = await consumer.end_offsets([partition])
        return int(ends[partition]) - 1


def adoption_of(ends_below: int, now_ms: int, actor: str) -> ConfigEntry:
    """The entry that accepts a shorter log. Time is its version: earlier ones may be lost."""
    kind, entity_id = ADOPTION
    return ConfigEntry(
        kind=kind,
        id=entity_id,
        version=now_ms,
        body=str(ends_below),
        written_at_ms=now_ms,
        written_by=actor,
    )


def audit_of(entry: ConfigEntry, action: str) -> AuditRecorded:
    """The audit record of a configuration entry; it names the entity and quotes none of it, but for overrides, whose
    whole point is what they say, until when and why."""
    body = msgspec.json.decode(entry.body) if entry.body is not None else None
    owner = str(body.get("org", "")) if isinstance(body, dict) else ""
    org = entry.id if entry.kind == "organization" else owner
    detail: dict[str, Any] = {"kind": entry.kind, "id": entry.id, "version": entry.version}
    if entry.kind in OVERRIDES and body is not None:
        detail["override"] = body
    return AuditRecorded(
        audit_id=f"config:{entry.kind}/{entry.id}:{entry.version}",
        org=org,
        action=action,
        actor=entry.written_by,
        at_ms=entry.written_at_ms,
        detail=msgspec.json.encode(detail).decode(),
    )
