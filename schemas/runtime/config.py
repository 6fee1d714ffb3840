"""Every process's view of the configuration: reads the whole config log and follows it.

What is in force is also kept on disk, so that a process boots when Kafka is away. The view never goes
back: an older copy from disk is replaced as soon as the log has been read to its end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from schemas.codec import MalformedRecord, decode_as
from schemas.config_state import ConfigState, Snapshot
from schemas.events import ConfigEntry
from schemas.failures import Transient
from schemas.topics import CONFIG, MAX_RECORD_BYTES

_LOG = logging.getLogger(__name__)

_PARTITION = TopicPartition(CONFIG, 0)
_BOOT_DEADLINE_S = 15.0
_POLL_MS = 1_000
_RECONNECT_PAUSE_S = 2.0
_COPY_NAME = "config.json"

OnChange = Callable[[Snapshot], None]


class ConfigUnavailable(Transient):
    """Neither the config log nor a copy of it could be read."""


class _Copy(msgspec.Struct, frozen=True):
    """The last-known-good configuration on disk."""

    offset: int
    entries: list[ConfigEntry]


class ConfigFeed:
    """Follows the config log. ``snapshot`` is what is in force; ``on_change`` hears of every change."""

    def __init__(self, brokers: str, data_dir: Path, on_change: OnChange | None = None) -> None:
        self._brokers = brokers
        self._copy_path = data_dir / _COPY_NAME
        self._on_change = on_change
        self._state = ConfigState()
        self._advanced = asyncio.Condition()
        self._read_to_end = asyncio.Event()
        self._follower: asyncio.Task[None] | None = None
        self.snapshot = Snapshot()
        self.following = False

    async def start(self) -> None:
        """Read the log to its end; when that fails in time, fall back to the copy on disk.

        Raises ``ConfigUnavailable`` when there is neither.
        """
        self._follower = asyncio.create_task(self._follow())
        with suppress(TimeoutError):
            await asyncio.wait_for(self._read_to_end.wait(), _BOOT_DEADLINE_S)
        if self._read_to_end.is_set():
            return
        await self._boot_from_copy()

    async def _boot_from_copy(self) -> None:
        if not self._copy_path.exists():
            raise ConfigUnavailable(f"no Kafka at {self._brokers} and no {self._copy_path}")
        copy = msgspec.json.decode(self._copy_path.read_bytes(), type=_Copy)
        state = ConfigState()
        for entry in copy.entries:
            state.apply(entry, copy.offset)
        await self._adopt(state)

    @property
    def is_read(self) -> bool:
        """Whether the log has been read to its end since the process started."""
        return self._read_to_end.is_set()

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
        """The newest valid entry of an entity, deleted ones included."""
        return self._state.entries.get((kind, entity_id))

    def entries(self) -> list[ConfigEntry]:
        """The newest valid entry of every entity."""
        return list(self._state.entries.values())

    async def _follow(self) -> None:
        """Read from the beginning, again after every failure of the consumer."""
        while True:
            try:
                await self._read()
            except (KafkaError, OSError) as error:
                self.following = False
                _LOG.warning("config log: %r", error)
            await asyncio.sleep(_RECONNECT_PAUSE_S)

    async def _read(self) -> None:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._brokers,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=MAX_RECORD_BYTES,
        )
        await consumer.start()
        try:
            consumer.assign([_PARTITION])
            await consumer.seek_to_beginning(_PARTITION)
            end = (await consumer.end_offsets([_PARTITION]))[_PARTITION]
            state = ConfigState()
            if end == 0:
                await self._adopt(state)
                self._read_to_end.set()
            while True:
                batches = await consumer.getmany(timeout_ms=_POLL_MS)
                records = batches.get(_PARTITION, [])
                for record in records:
                    self._apply(state, record.value, record.offset)
                self.following = True
                position = await consumer.position(_PARTITION)
                if position >= end and (records or not self._read_to_end.is_set()):
                    state.offset = max(state.offset, position - 1)
                    await self._adopt(state)
                    self._read_to_end.set()
                    self._keep_copy()
        finally:
            await consumer.stop()

    def _apply(self, state: ConfigState, value: bytes | None, offset: int) -> None:
        try:
            problem = state.apply(decode_as(value, ConfigEntry), offset)
        except MalformedRecord as error:
            state.offset = offset
            _LOG.error("config entry at offset %d is malformed: %s", offset, error)
            return
        if problem is not None:
            _LOG.error("config entry refused: %s: %s", problem.where, problem.what)

    async def _adopt(self, state: ConfigState) -> None:
        self._state = state
        self.snapshot = state.snapshot()
        if self._on_change is not None:
            self._on_change(self.snapshot)
        async with self._advanced:
            self._advanced.notify_all()

    def _keep_copy(self) -> None:
        copy = _Copy(self._state.offset, self.entries())
        try:
            self._copy_path.parent.mkdir(parents=True, exist_ok=True)
            fresh = self._copy_path.with_suffix(".new")
            fresh.write_bytes(msgspec.json.encode(copy))
            fresh.replace(self._copy_path)
        except OSError as error:
            _LOG.warning("cannot keep a copy of the configuration: %r", error)
