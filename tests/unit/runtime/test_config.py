"""The configuration feed without Kafka: what it adopts, keeps on disk and waits for."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from schemas.codec import encode
from schemas.config_state import ConfigState, Snapshot
from schemas.runtime.config import feed as module
from schemas.runtime.config.feed import ConfigFeed
from tests.unit.runtime.config_log import (
    NEWER,
    UNREADABLE,
    ConfigLog,
    LogRecord,
    entry,
    followed,
    state,
    until,
)


async def test_what_is_adopted_is_in_force_and_told() -> None:
    """With deleted entities known, whose versions still count."""
    heard: list[Snapshot] = []
    feed = ConfigFeed("127.0.0.1:1", Path(), heard.append)
    await feed._adopt(state(entry("acme"), entry("zeta"), entry("zeta", None, 2)))

    assert set(feed.snapshot.organizations) == {"acme"}
    assert heard == [feed.snapshot]
    gone = feed.entry("organization", "zeta")
    assert gone is not None
    assert (gone.version, gone.body) == (2, None)
    assert len(feed.entries()) == 2


@pytest.mark.parametrize("name", UNREADABLE)
async def test_a_record_that_cannot_be_read_closes_what_it_names_and_the_feed_goes_on(
    log: ConfigLog, tmp_path: Path, name: str
) -> None:
    """The offset passes it, or everybody who waits for it would wait for ever."""
    log.append(*UNREADABLE[name])
    log.append(b"organization/next", encode(entry("next")))
    feed = ConfigFeed("127.0.0.1:1", tmp_path)
    await feed.start()
    await feed.wait_for(2, 5)
    await feed.stop()

    assert feed.snapshot.offset == 2
    assert set(feed.snapshot.organizations) == {"next"}
    assert feed.snapshot.closed == {("organization", "acme")}


async def test_a_record_of_a_newer_version_holds_the_feed_up(
    log: ConfigLog, tmp_path: Path
) -> None:
    """What was in force before it stays, the cause is stated, and it is no delay; once a known entry has
    replaced it, the feed reads on."""
    log.append(b"organization/acme", NEWER)
    log.append(b"organization/next", encode(entry("next")))
    feed = await followed(tmp_path)
    assert feed.alarm is not None
    assert feed.alarm.startswith("unknown_schema: id 65535")
    assert feed.behind_s == 0
    assert (feed.snapshot.offset, set(feed.snapshot.organizations)) == (0, {"acme"})
    log.records[1] = LogRecord(1, b"organization/acme", encode(entry("acme", version=2)))
    await until(lambda: feed.snapshot.offset == 2)
    await feed.stop()

    assert (feed.snapshot.offset, set(feed.snapshot.organizations)) == (2, {"acme", "next"})


@pytest.mark.parametrize("key", [None, b"", b"\xff\xff", b"acme", b"/", b"organization/", b"/acme"])
async def test_a_record_that_names_nothing_closes_nothing(
    log: ConfigLog, tmp_path: Path, key: bytes | None
) -> None:
    """It is passed like any other."""
    log.append(key, b"garbage")
    feed = ConfigFeed("127.0.0.1:1", tmp_path)
    await feed.start()
    await feed.stop()

    assert feed.snapshot.offset == 1
    assert set(feed.snapshot.organizations) == {"acme"}
    assert feed.snapshot.closed == frozenset()


async def test_a_listener_that_fails_does_not_stop_the_feed(log: ConfigLog, tmp_path: Path) -> None:
    """Its fault is not the configuration's."""

    def fails(_: Snapshot) -> None:
        raise RuntimeError("listener")

    feed = ConfigFeed("127.0.0.1:1", tmp_path, fails)
    await feed.start()
    log.append(b"organization/zeta", encode(entry("zeta")))
    assert await feed.wait_for(1, 5)
    await feed.stop()

    assert set(feed.snapshot.organizations) == {"acme", "zeta"}


async def test_any_fault_of_the_reader_is_followed_by_another_try(
    log: ConfigLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process must not keep an old configuration in silence."""
    calls = 0
    take_in = ConfigFeed._take_in

    async def breaks_once(self: ConfigFeed, state: ConfigState) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ZeroDivisionError
        await take_in(self, state)

    monkeypatch.setattr(ConfigFeed, "_take_in", breaks_once)
    feed = ConfigFeed("127.0.0.1:1", tmp_path)
    await feed.start()
    await feed.stop()

    assert (calls >= 2, set(feed.snapshot.organizations)) == (True, {"acme"})


async def test_a_flood_of_changes_is_taken_in_together(
    log: ConfigLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The feed rests in proportion to its work, so that it cannot fill the process."""
    built = 0
    snapshot = ConfigState.snapshot

    def counted(self: ConfigState) -> Snapshot:
        nonlocal built
        built += 1
        return snapshot(self)

    monkeypatch.setattr(ConfigState, "snapshot", counted)
    monkeypatch.setattr(module, "_REST_PER_WORK", 10**6)
    monkeypatch.setattr(module, "_REST_MAX_S", 0.1)
    feed = await followed(tmp_path)
    for version in range(2, 102):
        log.append(b"organization/acme", encode(entry("acme", version=version)))
        await asyncio.sleep(0.001)
    await feed.wait_for(100, 5)
    await feed.stop()

    assert feed.snapshot.versions["organization", "acme"] == 101
    assert built <= 10


async def test_a_backlog_longer_than_one_fetch_is_taken_in_together(
    log: ConfigLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a hundred thousand keys would be taken in two hundred at a time, each time with all that came before;
    only what is read for too long is in force before the end is reached."""
    offsets: list[int] = []
    feed = ConfigFeed("127.0.0.1:1", tmp_path, lambda snapshot: offsets.append(snapshot.offset))
    await feed.start()
    for version in range(2, 3_002):
        log.append(b"organization/acme", encode(entry("acme", version=version)))
    await feed.wait_for(3_000, 5)
    at_leisure, offsets = offsets, []
    monkeypatch.setattr(module, "_TOGETHER_S", 0.0)
    monkeypatch.setattr(module, "_REST_MAX_S", 0.0)
    for version in range(3_002, 4_002):
        log.append(b"organization/acme", encode(entry("acme", version=version)))
    await feed.wait_for(4_000, 5)
    await feed.stop()

    assert at_leisure == [0, 3_000]
    assert len(offsets) >= 4


async def test_waiting_ends_when_the_offset_is_in_force() -> None:
    """Or when time is up, with the truth about it."""
    feed = ConfigFeed("127.0.0.1:1", Path())
    waiting = asyncio.create_task(feed.wait_for(1, 5))
    in_vain = await feed.wait_for(2, 0.01)
    await feed._adopt(state(entry("acme"), entry("zeta")))

    assert not in_vain
    assert await waiting
    assert await feed.wait_for(1, 0)
    assert not await feed.wait_for(2, 0)
