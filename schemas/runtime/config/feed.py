"""Every process's view of the configuration: reads the whole config log and follows it.

What is in force is also kept on disk, so that a process boots when Kafka is away. The view never goes
back by itself: a log that ends below what was in force is not taken in its place until an administrator
accepts it. Where it is told who may write, a record that nobody of them signed is as if it were not there; what such a
record has replaced in a compacted log is taken from what was in force. No record of the log can end the feed: it refuses that one, and what the record names is closed.
Only a record that a newer version wrote holds the feed up: what it says, and what follows from it, is unknown here.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from schemas.codec import MalformedRecord, UnknownSchema, decode_as, encode, unknown_schema
from schemas.config_references import Identity
from schemas.config_signing import Forgery, Verifier
from schemas.config_state import ConfigState, Snapshot
from schemas.events import ConfigEntry
from schemas.failures import Transient
from schemas.log_events import LogEvent
from schemas.readiness import DEGRADED, OK
from schemas.runtime.config.copy import ConfigCopy
from schemas.runtime.kafka.access import client_options
from schemas.runtime.kafka.address import read_kafka_address
from schemas.runtime.kafka.free_consumer import stop_consumer
from schemas.runtime.process.event_log import EventLog
from schemas.topics import CONFIG, MAX_RECORD_BYTES

_LOG = EventLog(__name__)

_PARTITION = TopicPartition(CONFIG, 0)
_BOOT_DEADLINE_S = 15.0
_POLL_MS = 1_000
_POLL_RECORDS_MAX = 200
"""Some milliseconds of the process, then the others have their turn."""
_TOGETHER_S = 2.0
"""While more of the log waits to be read, what was read is in force after this time at the latest."""
_RECONNECT_PAUSE_S = 2.0
_NEWER_AGAIN_S = 30.0
"""What a newer version wrote may have been replaced by something that is known here."""
_REST_PER_WORK = 9
_REST_MAX_S = 1.0
_FORGERIES_MAX = 256
_NAME_CHARS_MAX = 300
_VERIFIED_AT_ONCE = 16
"""A signature takes up to a fifth of a millisecond."""
"""A change costs time that grows with the configuration, so a flood of them is taken in together: the
feed rests nine times as long as it worked, and so takes a tenth of the process at most."""

OnChange = Callable[[Snapshot], None]


class ConfigUnavailable(Transient):
    """Neither the config log nor a copy of it could be read."""


class ConfigFeed:
    """Follows the config log. ``snapshot`` is what is in force; ``on_change`` hears of every change."""

    def __init__(
        self,
        brokers: str,
        data_dir: Path,
        on_change: OnChange | None = None,
        verifier: Verifier | None = None,
    ) -> None:
        self._brokers = brokers
        self._verifier = verifier
        self.forgeries: deque[Forgery] = deque(maxlen=_FORGERIES_MAX)
        """The last records that were not believed, for whoever tells auditors of them."""
        self._copy = ConfigCopy(data_dir)
        self._on_change = on_change
        self._state = ConfigState()
        self._kept: ConfigState | None = None
        """What the copy on disk had at the start, until something is in force."""
        self._advanced = asyncio.Condition()
        self._read_to_end = asyncio.Event()
        self._in_force = asyncio.Event()
        self._follower: asyncio.Task[None] | None = None
        self._behind_since_s: float | None = None
        self.snapshot = Snapshot()
        self.following = False
        self.known_offset = -1
        """The newest offset of the log that this process has heard of."""
        self.alarm: str | None = None
        """Why the log is not followed although it can be read: it ends below what is in force, or a newer
        version wrote into it."""

    async def start(self) -> None:
        """Read the log to its end; when that fails in time, fall back to the copy on disk.

        Raises ``ConfigUnavailable`` when there is neither.
        """
        self._kept = await asyncio.to_thread(self._copy.read)
        self._follower = asyncio.create_task(self._follow())
        with suppress(TimeoutError):
            await asyncio.wait_for(self._in_force.wait(), _BOOT_DEADLINE_S)
        if self._in_force.is_set():
            return
        await self._boot_from_copy()

    async def _boot_from_copy(self) -> None:
        if self._kept is None:
            raise ConfigUnavailable(
                f"no Kafka at {read_kafka_address(self._brokers).plain} and no {self._copy.path}"
            )
        await self._adopt(self._kept)

    @property
    def is_read(self) -> bool:
        """Whether the log has been read to its end since the process started."""
        return self._read_to_end.is_set()

    @property
    def component(self) -> str:
        """Its state as a component of readiness."""
        if self.alarm is not None:
            return f"{DEGRADED}{self.alarm}"
        if self.is_read:
            return OK
        return f"{DEGRADED}from the copy on disk" if self._in_force.is_set() else "nothing read yet"

    @property
    def behind_s(self) -> float:
        """Seconds for which this view has been behind what the log is known to contain; 0 when it is not."""
        return 0.0 if self._behind_since_s is None else time.monotonic() - self._behind_since_s

    def note_known(self, offset: int) -> None:
        """Somebody has read or written this offset of the log, so it exists."""
        self.known_offset = max(self.known_offset, offset)
        if self.known_offset <= self.snapshot.offset:
            self._behind_since_s = None
        elif self._behind_since_s is None:
            self._behind_since_s = time.monotonic()

    async def stop(self) -> None:
        """Stop following."""
        if self._follower is not None:
            self._follower.cancel()
            await asyncio.wait([self._follower], timeout=5.0)

    async def wait_for(self, offset: int, deadline_s: float) -> bool:
        """Whether the view is at ``offset`` or beyond within ``deadline_s`` seconds."""
        if self.snapshot.offset >= offset:
            return True
        with suppress(TimeoutError):
            async with asyncio.timeout(deadline_s), self._advanced:
                await self._advanced.wait_for(lambda: self.snapshot.offset >= offset)
        return self.snapshot.offset >= offset

    def entry(self, kind: str, entity_id: str) -> ConfigEntry | None:
        """The newest entry of an entity that could be decoded, deleted ones included."""
        return self._state.entries.get((kind, entity_id))

    def entries(self) -> list[ConfigEntry]:
        """The newest entry of every entity that could be decoded."""
        return list(self._state.entries.values())

    async def _follow(self) -> None:
        """Read from the beginning, again after every failure of the consumer."""
        while True:
            try:
                await self._read()
            except (KafkaError, OSError) as error:
                _LOG.event(LogEvent.CONFIG_LOG_AWAY, error=error)
            except Exception as defect:  # noqa: BLE001  # else nobody would follow the configuration any more
                # Reading again from the beginning mends all that is in memory.
                _LOG.event(LogEvent.CONFIG_DEFECT, defect=defect)
            self.following = False
            await asyncio.sleep(_RECONNECT_PAUSE_S)

    async def _read(self) -> None:
        consumer = AIOKafkaConsumer(
            **client_options(self._brokers),
            enable_auto_commit=False,
            # A log that was made anew is read from its beginning, by this function and not unnoticed.
            auto_offset_reset="none",
            max_partition_fetch_bytes=MAX_RECORD_BYTES,
        )
        await consumer.start()
        try:
            consumer.assign([_PARTITION])
            begin = (await consumer.beginning_offsets([_PARTITION]))[_PARTITION]
            consumer.seek(_PARTITION, begin)
            end = (await consumer.end_offsets([_PARTITION]))[_PARTITION]
            state = ConfigState()
            floor = await self._hold_below(end)
            if end <= begin and floor is None:
                await self._adopt(state)
                self._read_to_end.set()
            since_s: float | None = None
            while True:
                batches = await consumer.getmany(
                    _PARTITION, timeout_ms=_POLL_MS, max_records=_POLL_RECORDS_MAX
                )
                records: Sequence[ConsumerRecord] = batches.get(_PARTITION, ())
                if since_s is None and (records or not self.is_read):
                    since_s = time.monotonic()
                if (newer := await self._apply_all(state, records)) is not None:
                    await self._wait_for_newer(state, *newer)
                    return
                self.following = True
                position = await consumer.position(_PARTITION)
                if floor is None:
                    self.note_known((consumer.highwater(_PARTITION) or 0) - 1)
                elif state.accepted_below >= floor:
                    _LOG.event(LogEvent.CONFIG_SHORTER_ACCEPTED, expected=floor)
                    self.alarm, floor, self.known_offset = None, None, -1
                if floor is None and position >= end and self._is_another(state):
                    floor = await self._hold(
                        f"the config log at offset {position - 1} is another one than that which was"
                        f" in force at {self.snapshot.offset}",
                        position,
                    )
                is_due = since_s is not None and (
                    position >= (consumer.highwater(_PARTITION) or 0)
                    or time.monotonic() - since_s > _TOGETHER_S
                )
                if floor is None and position >= end and is_due:
                    self._keep(state)
                    state.offset = max(state.offset, position - 1)
                    self.alarm, since_s = None, None
                    await self._take_in(state)
                await asyncio.sleep(0)
        finally:
            await stop_consumer(consumer)

    async def _hold_below(self, end: int) -> int | None:
        """The offset below which the log must not end, if it does; then what was in force stays."""
        kept = -1 if self._kept is None else self._kept.offset
        floor = max(self.snapshot.offset, kept)
        if end > floor:
            return None
        why = f"the config log ends at offset {end - 1}, below {floor}, which was in force"
        return await self._hold(why, end)

    async def _hold(self, why: str, end: int) -> int:
        """Keep what was in force until an administrator accepts this log; the offset to be accepted."""
        floor = max(self.snapshot.offset, -1 if self._kept is None else self._kept.offset)
        self.alarm = (
            f"{why}: the earlier configuration stays; restore the log, or accept it with"
            " `tallygate config adopt`"
        )
        _LOG.event(LogEvent.CONFIG_SHORTER, offset=end - 1, expected=floor, cause=why)
        if not self._in_force.is_set() and self._kept is not None:
            await self._adopt(self._kept)
        return floor

    def _is_another(self, state: ConfigState) -> bool:
        """Whether a log that was read to its end is another one than that which was in force before, and
        nobody accepted it; however long it is by now."""
        was = (self._kept or self._state).birth
        if was is None or (state.birth is not None and state.birth.config == was.config):
            return False
        if state.birth is None and self._verifier is not None:
            # Whoever makes a log anew signs its birth; this one lost it to a record of somebody else.
            return False
        return state.accepted_below < max(
            self.snapshot.offset, self._kept.offset if self._kept else -1
        )

    async def _apply_all(
        self, state: ConfigState, records: Sequence[ConsumerRecord]
    ) -> tuple[int, UnknownSchema] | None:
        """Take records in; the offset of the first that a newer version wrote, which is not, nor what follows it."""
        for number, record in enumerate(records):
            if self._verifier is not None:
                # Before anything else is read of it: a forged record can hold up nobody.
                if number % _VERIFIED_AT_ONCE == 0:
                    await asyncio.sleep(0)
                if self._is_forged(record, self._verifier):
                    continue
            if (newer := unknown_schema(record.value)) is not None:
                return record.offset, newer
            self._apply(state, record.key, record.value, record.offset)
        return None

    def _is_forged(self, record: ConsumerRecord, verifier: Verifier) -> bool:
        """Whether nobody who may write signed the record. What is in force already needs no proof, and what this process
        has read before, in an earlier life perhaps, is not told again."""
        named, held = _named_by(record.key), self._kept or self._state
        known = held.entries.get(named) if named is not None else None
        if known is not None and record.value is not None and encode(known) == record.value:
            return False
        why = verifier.fault(record.key, record.value, record.headers)
        if why is None:
            return False
        if record.offset <= held.offset:
            return True
        entity = (record.key or b"").decode(errors="replace")[:_NAME_CHARS_MAX]
        self.forgeries.append(Forgery(record.offset, record.timestamp, entity, why))
        _LOG.event(LogEvent.CONFIG_ENTRY_FORGED, offset=record.offset, entity=entity, cause=why)
        return True

    def _keep(self, state: ConfigState) -> None:
        """Take from what was in force the entries that the log has lost, or has in an older version: compaction keeps the
        newest record of each key, whoever wrote it. Not where an administrator accepted another log."""
        held = self._kept or self._state
        if self._verifier is None or held is state or state.accepted_below >= held.offset:
            return
        for identity, entry in held.entries.items():
            current = state.entries.get(identity)
            if current is None or current.version < entry.version:
                state.apply(entry, state.offset)
                _LOG.event(LogEvent.CONFIG_ENTRY_KEPT, entity="/".join(identity))

    async def _wait_for_newer(self, state: ConfigState, offset: int, newer: UnknownSchema) -> None:
        """Keep what the log says before the offset in force, for as long as nobody here can read on."""
        self.alarm = f"{newer}: the configuration before offset {offset} stays"
        _LOG.event(LogEvent.CONFIG_NEWER, offset=offset, error=newer)
        state.offset = offset - 1
        kept = self._kept
        if not self._in_force.is_set() and kept is not None and kept.offset > state.offset:
            await self._adopt(kept)
        elif not self._in_force.is_set() or state.offset > self.snapshot.offset:
            await self._adopt(state)
            await asyncio.to_thread(self._copy.write, state)
        await asyncio.sleep(_NEWER_AGAIN_S)

    async def _take_in(self, state: ConfigState) -> None:
        """Adopt the state and keep a copy; then rest, so that a flood is taken in together."""
        began_s = time.monotonic()
        await self._adopt(state)
        self._read_to_end.set()
        await asyncio.to_thread(self._copy.write, state)
        worked_s = time.monotonic() - began_s
        await asyncio.sleep(min(_REST_MAX_S, _REST_PER_WORK * worked_s))

    def _apply(
        self, state: ConfigState, key: bytes | None, value: bytes | None, offset: int
    ) -> None:
        """Take a record in. One that cannot be read closes what its key names."""
        named = _named_by(key)
        try:
            entry = decode_as(value, ConfigEntry)
        except MalformedRecord as error:
            self._refuse(state, named, str(error), offset)
        except Exception as error:  # noqa: BLE001  # foreign bytes; whatever they do to a decoder
            self._refuse(state, named, repr(error), offset)
        else:
            if named is not None and named != (entry.kind, entry.id):
                # The log keeps the newest record of each key, so its key says what it replaces.
                self._refuse(state, named, f"it is an entry of {entry.kind}/{entry.id}", offset)
            elif (problem := state.apply(entry, offset)) is not None:
                _LOG.event(LogEvent.CONFIG_ENTRY_REFUSED, entity=problem.where, cause=problem.what)

    def _refuse(self, state: ConfigState, named: Identity | None, why: str, offset: int) -> None:
        state.offset = offset
        if named is not None:
            state.close(named, why[:1_000], offset)
        entity = "/".join(named or ())
        _LOG.event(LogEvent.CONFIG_ENTRY_REFUSED, offset=offset, entity=entity, cause=why)

    async def _adopt(self, state: ConfigState) -> None:
        self.snapshot = await asyncio.to_thread(state.snapshot)
        self._state = state
        self._kept = None
        self._in_force.set()
        self.note_known(self.snapshot.offset)
        if self._on_change is not None:
            try:
                self._on_change(self.snapshot)
            except Exception as defect:  # noqa: BLE001  # a listener's fault is not the configuration's
                _LOG.event(LogEvent.CONFIG_LISTENER_DEFECT, defect=defect)
        async with self._advanced:
            self._advanced.notify_all()


def _named_by(key: bytes | None) -> Identity | None:
    """The identity in a record's key, ``kind/id``; ``None`` when it names nothing."""
    kind, slash, entity_id = (key or b"").decode(errors="replace").partition("/")
    return (kind, entity_id) if slash and kind and entity_id else None
