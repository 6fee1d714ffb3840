"""The configuration feed without Kafka: what it adopts, keeps on disk and waits for."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError, OffsetOutOfRangeError

from schemas.codec import encode
from schemas.config_state import ADOPTION, ConfigState, Snapshot
from schemas.events import ConfigEntry
from schemas.runtime.config import feed as module
from schemas.runtime.config.feed import ConfigFeed, ConfigUnavailable
from tests.support import events


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


@dataclass(frozen=True)
class _Record:
    offset: int
    key: bytes | None
    value: bytes | None


class _Log:
    """The config log, and every consumer of it; it can be away."""

    def __init__(self, *entries: ConfigEntry) -> None:
        self.records: list[_Record] = []
        self.begin = 0
        self.is_away = False
        for entry in entries:
            self.append(f"{entry.kind}/{entry.id}".encode(), encode(entry))

    def append(self, key: bytes | None, value: bytes | None) -> None:
        self.records.append(_Record(len(self.records), key, value))

    def consumer(self, **_: Any) -> _Consumer:
        return _Consumer(self)


class _Consumer:
    def __init__(self, log: _Log) -> None:
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
    ) -> dict[Any, list[_Record]]:
        await asyncio.sleep(0.001)
        if self._log.is_away:
            raise KafkaConnectionError
        if self._at > len(self._log.records):
            raise OffsetOutOfRangeError
        found = self._log.records[self._at : self._at + max_records]
        self._at += len(found)
        return {asked: found} if found else {}


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> _Log:
    """A config log of one organization."""
    found = _Log(_entry("acme"))
    monkeypatch.setattr(module, "AIOKafkaConsumer", found.consumer)
    monkeypatch.setattr(module, "_RECONNECT_PAUSE_S", 0.01)
    monkeypatch.setattr(module, "_NEWER_AGAIN_S", 0.05)
    return found


async def _until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  # the feed has no event for it
            await asyncio.sleep(0.005)


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


async def test_the_copy_on_disk_boots_what_was_in_force(log: _Log, tmp_path: Path) -> None:
    """Entities, versions, offset and what is closed; but it is not the log, and the feed says so."""
    log.append(b"organization/zeta", b"garbage")
    feed = ConfigFeed("127.0.0.1:1", tmp_path / "new")
    await feed.start()
    await _until((tmp_path / "new" / "config.json").exists)
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
    log: _Log, tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """It keeps no process from starting."""
    (tmp_path / "config.json").write_bytes(content)
    feed = ConfigFeed("127.0.0.1:1", tmp_path)
    await feed.start()
    await _until(lambda: feed._copy.read() is not None)
    await feed.stop()

    assert set(feed.snapshot.organizations) == {"acme"}
    assert caplog.text.count("config_copy_unreadable") >= 1


_NEWER = b"\x00\x00\x00\xff\xff" + b"x" * 20
_OTHER_EVENT = encode(events.accepted())
_RECORDS: dict[str, tuple[bytes | None, bytes | None]] = {
    "no value": (b"organization/acme", None),
    "empty": (b"organization/acme", b""),
    "garbage": (b"organization/acme", b"\x00garbage"),
    "another magic byte": (b"organization/acme", b"\x01" + encode(_entry("acme"))[1:]),
    "cut off": (b"organization/acme", encode(_entry("acme"))[:-3]),
    "invalid text": (b"organization/acme", encode(_entry("acme")).replace(b"acme", b"\xff\xfe\xfd\xfc")),
    "another event": (b"organization/acme", _OTHER_EVENT),
    "another entity": (b"organization/acme", encode(_entry("zeta", version=9))),
    "no json": (b"organization/acme", encode(_entry("acme", "{", 2))),
    "deep json": (b"organization/acme", encode(_entry("acme", "[" * 100_000, 2))),
    "a large body": (b"organization/acme", encode(_entry("acme", '{"name":"' + "x" * 10**6 + '"}', 2))),
    "a typo": (b"organization/acme", encode(_entry("acme", '{"nmae":"x"}', 2))),
}  # fmt: skip


@pytest.mark.parametrize("name", _RECORDS)
async def test_a_record_that_cannot_be_read_closes_what_it_names_and_the_feed_goes_on(
    log: _Log, tmp_path: Path, name: str
) -> None:
    """The offset passes it, or everybody who waits for it would wait for ever."""
    log.append(*_RECORDS[name])
    log.append(b"organization/next", encode(_entry("next")))
    feed = ConfigFeed("127.0.0.1:1", tmp_path)
    await feed.start()
    await feed.wait_for(2, 5)
    await feed.stop()

    assert feed.snapshot.offset == 2
    assert set(feed.snapshot.organizations) == {"next"}
    assert feed.snapshot.closed == {("organization", "acme")}


async def test_a_record_of_a_newer_version_holds_the_feed_up(log: _Log, tmp_path: Path) -> None:
    """What was in force before it stays, the cause is stated, and it is no delay; once a known entry has
    replaced it, the feed reads on."""
    log.append(b"organization/acme", _NEWER)
    log.append(b"organization/next", encode(_entry("next")))
    feed = await _followed(tmp_path)
    assert feed.alarm is not None
    assert feed.alarm.startswith("unknown_schema: id 65535")
    assert feed.behind_s == 0
    assert (feed.snapshot.offset, set(feed.snapshot.organizations)) == (0, {"acme"})
    log.records[1] = _Record(1, b"organization/acme", encode(_entry("acme", version=2)))
    await _until(lambda: feed.snapshot.offset == 2)
    await feed.stop()

    assert (feed.snapshot.offset, set(feed.snapshot.organizations)) == (2, {"acme", "next"})


async def test_a_copy_that_a_newer_version_kept_stays_in_force(log: _Log, tmp_path: Path) -> None:
    """The view never goes back by itself, whichever version runs next."""
    log.append(b"organization/zeta", encode(_entry("zeta")))
    await (await _followed(tmp_path)).stop()
    log.records[0] = _Record(0, b"organization/acme", _NEWER)
    feed = await _followed(tmp_path)
    await feed.stop()

    assert set(feed.snapshot.organizations) == {"acme", "zeta"}


@pytest.mark.parametrize("key", [None, b"", b"\xff\xff", b"acme", b"/", b"organization/", b"/acme"])
async def test_a_record_that_names_nothing_closes_nothing(
    log: _Log, tmp_path: Path, key: bytes | None
) -> None:
    """It is passed like any other."""
    log.append(key, b"garbage")
    feed = ConfigFeed("127.0.0.1:1", tmp_path)
    await feed.start()
    await feed.stop()

    assert feed.snapshot.offset == 1
    assert set(feed.snapshot.organizations) == {"acme"}
    assert feed.snapshot.closed == frozenset()


async def test_a_listener_that_fails_does_not_stop_the_feed(log: _Log, tmp_path: Path) -> None:
    """Its fault is not the configuration's."""

    def fails(_: Snapshot) -> None:
        raise RuntimeError("listener")

    feed = ConfigFeed("127.0.0.1:1", tmp_path, fails)
    await feed.start()
    log.append(b"organization/zeta", encode(_entry("zeta")))
    assert await feed.wait_for(1, 5)
    await feed.stop()

    assert set(feed.snapshot.organizations) == {"acme", "zeta"}


async def test_any_fault_of_the_reader_is_followed_by_another_try(
    log: _Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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


async def _followed(folder: Path) -> ConfigFeed:
    """A feed that has read the log and kept a copy, or raised its alarm."""
    feed = ConfigFeed("127.0.0.1:1", folder)
    await feed.start()

    def is_kept() -> bool:
        copy = feed._copy.read()
        return feed.alarm is not None or (copy is not None and copy.offset == feed.snapshot.offset)

    await _until(is_kept)
    return feed


async def test_a_log_that_ends_below_what_was_in_force_is_not_taken(
    log: _Log, tmp_path: Path
) -> None:
    """It was restored from an older copy or made anew; the copy on disk stays, and the alarm says so."""
    log.append(b"organization/zeta", encode(_entry("zeta")))
    await (await _followed(tmp_path)).stop()
    log.records = log.records[:1]
    feed = await _followed(tmp_path)
    await asyncio.sleep(0.05)
    copy = feed._copy.read()
    await feed.stop()

    assert set(feed.snapshot.organizations) == {"acme", "zeta"}
    assert feed.alarm is not None
    assert "ends at offset 0, below 1" in feed.alarm
    assert copy is not None
    assert copy.offset == 1


async def test_a_log_made_anew_under_a_running_process_is_noticed(
    log: _Log, tmp_path: Path
) -> None:
    """Without a restart as well."""
    log.append(b"organization/zeta", encode(_entry("zeta")))
    feed = await _followed(tmp_path)
    log.records = []
    await _until(lambda: feed.alarm is not None)
    await feed.stop()

    assert set(feed.snapshot.organizations) == {"acme", "zeta"}


@pytest.mark.parametrize(("accepted_below", "is_taken"), [(1, True), (7, True), (0, False)])
async def test_a_shorter_log_is_taken_once_an_administrator_accepts_it(
    log: _Log, tmp_path: Path, accepted_below: int, is_taken: bool
) -> None:
    """For the end that was told to him; a copy that is further waits for an acceptance of its own."""
    log.append(b"organization/zeta", encode(_entry("zeta")))
    await (await _followed(tmp_path)).stop()
    log.records = []
    feed = await _followed(tmp_path)
    accepted = ConfigEntry(
        kind=ADOPTION[0],
        id=ADOPTION[1],
        version=5,
        body=str(accepted_below),
        written_at_ms=0,
        written_by="admin",
    )
    log.append(b"log/adopted", encode(accepted))
    if is_taken:
        await _until(lambda: feed.alarm is None and feed.snapshot.offset == 0)
    else:
        await asyncio.sleep(0.1)
    await feed.stop()

    assert (feed.snapshot.organizations == {}) is is_taken
    assert (feed.alarm is None) is is_taken


async def test_a_view_that_lacks_what_others_have_read_is_behind(log: _Log, tmp_path: Path) -> None:
    """Until it has read it as well."""
    feed = await _followed(tmp_path)
    assert feed.behind_s == 0
    log.is_away = True
    feed.note_known(1)
    await asyncio.sleep(0.02)
    behind_s = feed.behind_s
    log.is_away = False
    log.append(b"organization/zeta", encode(_entry("zeta")))
    await feed.wait_for(1, 5)
    await feed.stop()

    assert behind_s >= 0.02
    assert feed.behind_s == 0


async def test_a_flood_of_changes_is_taken_in_together(
    log: _Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    feed = await _followed(tmp_path)
    for version in range(2, 102):
        log.append(b"organization/acme", encode(_entry("acme", version=version)))
        await asyncio.sleep(0.001)
    await feed.wait_for(100, 5)
    await feed.stop()

    assert feed.snapshot.versions["organization", "acme"] == 101
    assert built <= 10


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
