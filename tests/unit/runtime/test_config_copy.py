"""The copy of the configuration on disk: what it boots, and what is said when it cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.codec import encode
from schemas.runtime.config.feed import ConfigFeed, ConfigUnavailable
from tests.unit.runtime.config_log import NEWER, ConfigLog, LogRecord, entry, followed, until


async def test_the_copy_on_disk_boots_what_was_in_force(log: ConfigLog, tmp_path: Path) -> None:
    """Entities, versions, offset and what is closed; but it is not the log, and the feed says so."""
    log.append(b"organization/zeta", b"garbage")
    feed = ConfigFeed("127.0.0.1:1", tmp_path / "new")
    await feed.start()
    await until((tmp_path / "new" / "config.json").exists)
    await feed.stop()
    log.is_away = True
    booted = ConfigFeed("127.0.0.1:1", tmp_path / "new")
    booted._kept = booted._copy.read()
    await booted._boot_from_copy()

    assert booted.snapshot == feed.snapshot
    assert booted.snapshot.closed == {("organization", "zeta")}
    assert not booted.is_read
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["config.json"]


async def test_without_log_and_copy_there_is_no_configuration(tmp_path: Path) -> None:
    """The process must not start with an empty one."""
    with pytest.raises(ConfigUnavailable):
        await ConfigFeed("127.0.0.1:1", tmp_path)._boot_from_copy()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[]", b"[" * 100_000, b'{"offset":1}']
)
async def test_a_copy_that_cannot_be_read_is_said_once_and_replaced(
    log: ConfigLog, tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """It keeps no process from starting."""
    (tmp_path / "config.json").write_bytes(content)
    feed = ConfigFeed("127.0.0.1:1", tmp_path)
    await feed.start()
    await until(lambda: feed._copy.read() is not None)
    await feed.stop()

    assert set(feed.snapshot.organizations) == {"acme"}
    assert caplog.text.count("config_copy_unreadable") >= 1


async def test_a_copy_that_a_newer_version_kept_stays_in_force(
    log: ConfigLog, tmp_path: Path
) -> None:
    """The view never goes back by itself, whichever version runs next."""
    log.append(b"organization/zeta", encode(entry("zeta")))
    await (await followed(tmp_path)).stop()
    log.records[0] = LogRecord(0, b"organization/acme", NEWER)
    feed = await followed(tmp_path)
    await feed.stop()

    assert set(feed.snapshot.organizations) == {"acme", "zeta"}
