"""The admin API over a configuration in memory and a store and a broker that are away or empty."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import SecretStr
from starlette.types import ASGIApp

from ingress.admin.config import config_writer
from ingress.admin.deps import AdminDeps
from ingress.admin.finance.verifier import Verifier
from ingress.admin.log.scans import Scans
from ingress.admin.routes import create_http_app
from ingress.admin.settings import AdminSettings
from schemas.codec import decode_as
from schemas.config_state import ConfigState, Snapshot
from schemas.events import ConfigEntry, RecordRef
from schemas.outgoing import Outgoing
from schemas.runtime.config.feed import ConfigFeed
from schemas.runtime.kafka.produce import Producer
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.telemetry import Metrics
from schemas.runtime.valkey.store import Store
from schemas.topics import CONFIG


class Feed:
    """A configuration that follows what is produced at once."""

    def __init__(self) -> None:
        self.state = ConfigState()
        self.snapshot = Snapshot()
        self.following = True
        self.alarm: str | None = None

    def take(self, entry: ConfigEntry) -> int:
        self.state.apply(entry, self.state.offset + 1)
        self.snapshot = self.state.snapshot()
        return self.state.offset

    async def wait_for(self, offset: int, deadline_s: float) -> bool:
        return self.snapshot.offset >= offset

    def note_known(self, offset: int) -> None: ...

    def entry(self, kind: str, entity_id: str) -> ConfigEntry | None:
        return self.state.entries.get((kind, entity_id))

    def entries(self) -> list[ConfigEntry]:
        return list(self.state.entries.values())


class EmptyStore:
    """A store that has nothing and takes everything."""

    def call(self, *command: Any) -> asyncio.Future[Any]:
        answers = {"HGETALL": [], "SET": b"OK", "EVAL": 1, "GET": None, "ZCARD": 0}
        answers |= {"SCAN": [b"0", []]}
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        answer.set_result(answers.get(str(command[0])))
        return answer


@dataclass
class Log:
    """A producer whose records are in the configuration at once."""

    feed: Feed
    records: list[Outgoing] = field(default_factory=list)

    def send(self, record: Outgoing) -> asyncio.Future[RecordRef]:
        self.records.append(record)
        offset = 0
        if record.topic == CONFIG:
            offset = self.feed.take(decode_as(record.value, ConfigEntry))
        place = RecordRef(topic=record.topic, partition=0, offset=offset)
        delivered: asyncio.Future[RecordRef] = asyncio.get_running_loop().create_future()
        delivered.set_result(place)
        return delivered

    def partitions(self, topic: str) -> int:
        return 4


def admin_app(
    monkeypatch: pytest.MonkeyPatch,
    components: Mapping[str, str] | None = None,
    log: list[Outgoing] | None = None,
    **more: Any,
) -> tuple[ASGIApp, Feed]:
    """The application and its configuration; the records that it produces go into ``log``, ``more`` are settings."""
    feed = Feed()

    async def last_offset(_: object) -> int:
        return feed.snapshot.offset

    monkeypatch.setattr(config_writer.ConfigWriter, "_last_offset", last_offset)
    settings = AdminSettings(
        kafka_brokers=more.pop("kafka_brokers", "127.0.0.1:1"),
        ledger_url="redis://127.0.0.1:1/0",
        data_dir=Path("/nonexistent"),
        instance_id="admin-0",
        key_pepper=SecretStr("a pepper of thirty-two characters"),
        **more,
    )
    deps = AdminDeps(
        settings=settings,
        config=cast(ConfigFeed, feed),
        producer=cast(Producer, Log(feed, [] if log is None else log)),
        ledger_store=cast(Store, EmptyStore()),
        clock=Clock(),
    )
    verifier = Verifier.create(deps, Scans(deps.clock), Metrics())
    return create_http_app(lambda: dict(components or {}), Metrics(), verifier), feed
