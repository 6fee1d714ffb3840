"""A configuration log in memory, in the place of the topic."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiokafka.errors import KafkaConnectionError, OffsetOutOfRangeError

from schemas.codec import encode
from schemas.config_signing import Verifier
from schemas.config_state import ConfigState
from schemas.events import ConfigEntry
from schemas.runtime.config.feed import ConfigFeed
from tests.support import events


def entry(name: str, body: str | None = "{}", version: int = 1) -> ConfigEntry:
    return ConfigEntry(
        kind="organization",
        id=name,
        version=version,
        body=body,
        written_at_ms=0,
        written_by="admin",
    )


def state(*entries: ConfigEntry) -> ConfigState:
    state = ConfigState()
    for offset, entry in enumerate(entries):
        state.apply(entry, offset)
    return state


@dataclass(frozen=True)
class LogRecord:
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp: int = 0


class ConfigLog:
    """The config log, and every consumer of it; it can be away."""

    def __init__(self, *entries: ConfigEntry) -> None:
        self.records: list[LogRecord] = []
        self.begin = 0
        self.is_away = False
        for entry in entries:
            self.append(f"{entry.kind}/{entry.id}".encode(), encode(entry))

    def append(self, key: bytes | None, value: bytes | None, *headers: tuple[str, bytes]) -> None:
        self.records.append(LogRecord(len(self.records), key, value, headers))

    def consumer(self, **_: Any) -> LogConsumer:
        return LogConsumer(self)


class LogConsumer:
    def __init__(self, log: ConfigLog) -> None:
        self._log = log
        self._at = 0

    async def start(self) -> None:
        if self._log.is_away:
            raise KafkaConnectionError

    async def stop(self) -> None: ...

    def assign(self, _: object) -> None: ...

    def seek(self, _: object, offset: int) -> None:
        self._at = offset

    async def beginning_offsets(self, asked: list[Any]) -> dict[Any, int]:
        return {asked[0]: self._log.begin}

    async def end_offsets(self, asked: list[Any]) -> dict[Any, int]:
        return {asked[0]: len(self._log.records)}

    async def position(self, _: object) -> int:
        return self._at

    def highwater(self, _: object) -> int:
        return len(self._log.records)

    async def getmany(
        self, asked: Any, *, timeout_ms: int, max_records: int
    ) -> dict[Any, list[LogRecord]]:
        await asyncio.sleep(0.001)
        if self._log.is_away:
            raise KafkaConnectionError
        if self._at > len(self._log.records):
            raise OffsetOutOfRangeError
        found = self._log.records[self._at : self._at + max_records]
        self._at += len(found)
        return {asked: found} if found else {}


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  # the feed has no event for it
            await asyncio.sleep(0.005)


NEWER = b"\x00\x00\x00\xff\xff" + b"x" * 20
_OTHER_EVENT = encode(events.accepted())
UNREADABLE: dict[str, tuple[bytes | None, bytes | None]] = {
    "no value": (b"organization/acme", None),
    "empty": (b"organization/acme", b""),
    "garbage": (b"organization/acme", b"\x00garbage"),
    "another magic byte": (b"organization/acme", b"\x01" + encode(entry("acme"))[1:]),
    "cut off": (b"organization/acme", encode(entry("acme"))[:-3]),
    "invalid text": (b"organization/acme", encode(entry("acme")).replace(b"acme", b"\xff\xfe\xfd\xfc")),
    "another event": (b"organization/acme", _OTHER_EVENT),
    "another entity": (b"organization/acme", encode(entry("zeta", version=9))),
    "no json": (b"organization/acme", encode(entry("acme", "{", 2))),
    "deep json": (b"organization/acme", encode(entry("acme", "[" * 100_000, 2))),
    "a large body": (b"organization/acme", encode(entry("acme", '{"name":"' + "x" * 10**6 + '"}', 2))),
    "a typo": (b"organization/acme", encode(entry("acme", '{"nmae":"x"}', 2))),
}  # fmt: skip


async def followed(folder: Path, verifier: Verifier | None = None) -> ConfigFeed:
    """A feed that has read the log and kept a copy, or raised its alarm."""
    feed = ConfigFeed("127.0.0.1:1", folder, verifier=verifier)
    await feed.start()

    def is_kept() -> bool:
        copy = feed._copy.read()
        return feed.alarm is not None or (copy is not None and copy.offset == feed.snapshot.offset)

    await until(is_kept)
    return feed
