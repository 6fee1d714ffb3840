"""The configuration feed without Kafka: what it adopts, keeps on disk and waits for."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from schemas.codec import encode
from schemas.config_state import ConfigState, Snapshot
from schemas.events import ConfigEntry
from schemas.runtime.config import ConfigFeed, ConfigUnavailable


def _entry(name: str, body: str | None = "{}", version: int = 1) -> ConfigEntry:
    return ConfigEntry(
        kind="organization",
        id=name,
        version=version,
        body=body,
        written_at_ms=0,
        written_by="admin",
    )


def _state(*entries: ConfigEntry) -> ConfigState:
    state = ConfigState()
    for offset, entry in enumerate(entries):
        state.apply(entry, offset)
    return state


async def test_what_is_adopted_is_in_force_and_told() -> None:
    """With deleted entities known, whose versions still count."""
    heard: list[Snapshot] = []
    feed = ConfigFeed("127.0.0.1:1", Path(), heard.append)
    await feed._adopt(_state(_entry("acme"), _entry("zeta"), _entry("zeta", None, 2)))

    assert set(feed.snapshot.organizations) == {"acme"}
    assert heard == [feed.snapshot]
    gone = feed.entry("organization", "zeta")
    assert gone is not None
    assert (gone.version, gone.body) == (2, None)
    assert len(feed.entries()) == 2


async def test_the_copy_on_disk_boots_what_was_in_force(tmp_path: Path) -> None:
    """Entities, versions and offset; but it is not the log, and the feed says so."""
    feed = ConfigFeed("127.0.0.1:1", tmp_path / "new")
    await feed._adopt(_state(_entry("acme"), _entry("zeta"), _entry("zeta", None, 2)))
    feed._keep_copy()
    booted = ConfigFeed("127.0.0.1:1", tmp_path / "new")
    await booted._boot_from_copy()

    assert booted.snapshot == feed.snapshot
    assert not booted.is_read
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["config.json"]


async def test_without_log_and_copy_there_is_no_configuration(tmp_path: Path) -> None:
    """The process must not start with an empty one."""
    with pytest.raises(ConfigUnavailable):
        await ConfigFeed("127.0.0.1:1", tmp_path)._boot_from_copy()


async def test_a_malformed_entry_counts_but_changes_nothing() -> None:
    """The offset passes it, or everybody who waits for it would wait for ever."""
    feed = ConfigFeed("127.0.0.1:1", Path())
    state = _state(_entry("acme"))
    feed._apply(state, b"\x00garbage", 8)
    feed._apply(state, encode(_entry("acme", "[]", 2)), 9)
    await feed._adopt(state)

    assert feed.snapshot.offset == 9
    assert feed.snapshot.versions["organization", "acme"] == 1
    assert len(feed.snapshot.problems) == 1


async def test_waiting_ends_when_the_offset_is_in_force() -> None:
    """Or when time is up, with the truth about it."""
    feed = ConfigFeed("127.0.0.1:1", Path())
    waiting = asyncio.create_task(feed.wait_for(1, 5))
    in_vain = await feed.wait_for(2, 0.01)
    await feed._adopt(_state(_entry("acme"), _entry("zeta")))

    assert not in_vain
    assert await waiting
    assert await feed.wait_for(1, 0)
    assert not await feed.wait_for(2, 0)
