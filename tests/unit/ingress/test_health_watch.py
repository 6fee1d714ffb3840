"""The watch keeps the last known state and tells who does not answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ingress.health.conditions import shards_told
from ingress.health.watch import HealthWatch
from schemas.config_state import Snapshot
from schemas.ledger.keys import BACKEND_HEALTH, BROKER_DISK, CONFIG_APPLIED
from schemas.ledger.shards import Shards
from schemas.runtime.kafka.produce import ProduceFailed
from schemas.runtime.process import silences
from schemas.runtime.process.clock import Clock
from schemas.runtime.valkey.store import StoreUnavailable
from tests.support.gateway import FakeConfig


class _Store:
    """Answers from memory, never, or with a failure."""

    def __init__(self) -> None:
        self.hangs = False
        self.is_away = False
        self.lost: set[str] = set()
        """Keys whose server is away."""
        self.why: bytes | None = None
        self.ready: dict[str, bytes | None] = {"{0}|meta": b"1", "{1}|meta": b"1"}
        now = str(Clock().now_ms()).encode()
        self.hashes: dict[str, list[bytes]] = {
            CONFIG_APPLIED: [b"dispatcher-0", b"dispatcher 7 " + now],
            BACKEND_HEALTH: [],
            BROKER_DISK: [b"broker", b"5 9 " + now],
        }

    async def call(self, *command: str) -> Any:
        """One command."""
        if self.hangs:
            await asyncio.Event().wait()
        if self.is_away:
            raise StoreUnavailable("away")
        if command[1:2] and command[1] in self.lost:
            raise StoreUnavailable("its server is away")
        if command[0] == "HMGET":
            return [self.ready[command[1]], self.why, b"3"]
        if command[0] == "HGETALL":
            return self.hashes[command[1]]
        return b"used_memory:90\r\nmaxmemory:100\r\n"

    async def call_each(self, *command: str) -> list[Any]:
        """One command, to all."""
        return [await self.call(*command)]


class _Watched:
    def __init__(self) -> None:
        self.ledger, self.bus = _Store(), _Store()
        self.is_kafka_away = False
        self.shards: Shards | None = Shards(2)
        self.watch = HealthWatch(
            config=FakeConfig(),  # type: ignore[arg-type]
            shards=lambda: self.shards,
            ledger_store=self.ledger,  # type: ignore[arg-type]
            bus_store=self.bus,  # type: ignore[arg-type]
            ask_kafka=self._ask_kafka,
            clock=Clock(),
            disk_free_min_bytes=6,
        )

    def silence_s(self, name: str) -> float:
        return self.watch.silences.silence_s(name)

    async def _ask_kafka(self) -> None:
        if self.is_kafka_away:
            raise ProduceFailed("away")


async def test_a_look_finds_workers_and_conditions() -> None:
    """And nobody is silent."""
    watched = _Watched()
    await watched.watch.look()

    fleet, conditions = watched.watch.fleet, watched.watch.conditions

    assert fleet is not None
    assert fleet.workers["dispatcher"].keys() == {"dispatcher-0"}
    assert fleet.models == 2
    assert conditions.closing(0.0).keys() == {"ledger_memory", "broker_disk"}
    assert [watched.silence_s(name) for name in ("ledger", "bus", "kafka")] == [0, 0, 0]


@pytest.mark.parametrize("ready", [None, b"0"], ids=["wiped", "being rebuilt"])
async def test_a_ledger_without_its_books_closes_the_door(ready: bytes | None) -> None:
    """It answers, and decides nothing: nobody is left to wait for that until a deadline."""
    watched = _Watched()
    watched.ledger.ready = dict.fromkeys(watched.ledger.ready, ready)
    await watched.watch.look()
    closing = watched.watch.conditions.closing(0.0)
    watched.ledger.ready = dict.fromkeys(watched.ledger.ready, b"1")
    await watched.watch.look()

    assert closing["ledger"] == "empty or being rebuilt"
    assert "ledger" not in watched.watch.conditions.closing(0.0)


async def test_a_shard_without_its_books_closes_the_door_for_its_own() -> None:
    """The others are served, and the status names it."""
    watched = _Watched()
    watched.ledger.ready["{1}|meta"] = None
    await watched.watch.look()
    conditions = watched.watch.conditions
    told = conditions.closed
    watched.ledger.why = b"restarted"
    await watched.watch.look()

    assert told == {1: "empty or being rebuilt"}
    assert conditions.closed == {1: "restarted, being rebuilt"}
    assert "ledger" not in conditions.closing(0.0)
    assert shards_told(conditions.closed) == {"ledger_shards": "restarted, being rebuilt: 1"}


async def test_a_shard_that_another_store_has_by_now_is_closed_here() -> None:
    """A primary that came back answers as ever, and what it decides would be lost."""
    watched = _Watched()
    epochs = {0: 3, 1: 4}
    watched.watch.config.snapshot = Snapshot(ledger_epochs=epochs)
    await watched.watch.look()

    assert watched.watch.conditions.closed == {1: "another store has it by now"}


async def test_a_server_of_the_store_that_is_away_closes_its_shards_and_no_others() -> None:
    """Reports that stand on it are those of before."""
    watched = _Watched()
    await watched.watch.look()
    before = watched.watch.fleet
    watched.ledger.lost = {"{1}|meta", CONFIG_APPLIED}
    await watched.watch.look()

    assert watched.watch.conditions.closed == {1: "its server does not answer"}
    assert "ledger" not in watched.watch.conditions.closing(0.0)
    assert watched.silence_s("ledger") == 0
    assert watched.watch.fleet is before


async def test_of_a_ledger_whose_shards_are_not_known_nothing_is_said() -> None:
    """The broker has not been reached yet."""
    watched = _Watched()
    watched.shards = None
    await watched.watch.look()

    assert "ledger" not in watched.watch.conditions.closing(0.0)
    assert watched.watch.conditions.closed == {}


async def test_a_store_that_hangs_is_told_and_delays_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was known of it stays, and grows old by itself."""
    monkeypatch.setattr(silences, "_ANSWER_WITHIN_S", 0.05)
    watched = _Watched()
    await watched.watch.look()
    before = watched.watch.fleet
    watched.ledger.hangs = True

    await watched.watch.look()

    assert watched.silence_s("ledger") > 0
    assert watched.silence_s("bus") == 0
    assert watched.watch.fleet is before


@pytest.mark.parametrize("name", ["ledger", "bus", "kafka"])
async def test_whoever_is_away_is_named_until_it_is_back(name: str) -> None:
    """Each of the three by itself."""
    watched = _Watched()

    def make(*, is_away: bool) -> None:
        watched.ledger.is_away = is_away and name == "ledger"
        watched.bus.is_away = is_away and name == "bus"
        watched.is_kafka_away = is_away and name == "kafka"

    make(is_away=True)
    await watched.watch.look()
    silent = {n for n in ("ledger", "bus", "kafka") if watched.silence_s(n)}
    make(is_away=False)
    await watched.watch.look()

    assert silent == {name}
    assert watched.silence_s(name) == 0
