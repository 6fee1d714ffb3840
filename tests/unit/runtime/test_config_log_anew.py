"""A configuration log that is shorter or newer than what is in force."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from schemas.codec import encode
from schemas.config_state import ADOPTION, BIRTH
from schemas.events import ConfigEntry
from tests.unit.runtime.config_log import ConfigLog, entry, followed, until


async def test_a_log_that_ends_below_what_was_in_force_is_not_taken(
    log: ConfigLog, tmp_path: Path
) -> None:
    """It was restored from an older copy or made anew; the copy on disk stays, and the alarm says so."""
    log.append(b"organization/zeta", encode(entry("zeta")))
    await (await followed(tmp_path)).stop()
    log.records = log.records[:1]
    feed = await followed(tmp_path)
    await asyncio.sleep(0.05)
    copy = feed._copy.read()
    await feed.stop()

    assert set(feed.snapshot.organizations) == {"acme", "zeta"}
    assert feed.alarm is not None
    assert "ends at offset 0, below 1" in feed.alarm
    assert copy is not None
    assert copy.offset == 1


async def test_a_log_made_anew_under_a_running_process_is_noticed(
    log: ConfigLog, tmp_path: Path
) -> None:
    """Without a restart as well."""
    log.append(b"organization/zeta", encode(entry("zeta")))
    feed = await followed(tmp_path)
    log.records = []
    await until(lambda: feed.alarm is not None)
    await feed.stop()

    assert set(feed.snapshot.organizations) == {"acme", "zeta"}


@pytest.mark.parametrize(("accepted_below", "is_taken"), [(1, True), (7, True), (0, False)])
async def test_a_shorter_log_is_taken_once_an_administrator_accepts_it(
    log: ConfigLog, tmp_path: Path, accepted_below: int, is_taken: bool
) -> None:
    """For the end that was told to him; a copy that is further waits for an acceptance of its own."""
    log.append(b"organization/zeta", encode(entry("zeta")))
    await (await followed(tmp_path)).stop()
    log.records = []
    feed = await followed(tmp_path)
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
        await until(lambda: feed.alarm is None and feed.snapshot.offset == 0)
    else:
        await asyncio.sleep(0.1)
    await feed.stop()

    assert (feed.snapshot.organizations == {}) is is_taken
    assert (feed.alarm is None) is is_taken


def _birth(config: str, outcomes: str = "o", version: int = 1) -> ConfigEntry:
    return ConfigEntry(
        kind=BIRTH[0],
        id=BIRTH[1],
        version=version,
        body=f'{{"config":"{config}","outcomes":"{outcomes}"}}',
        written_at_ms=0,
        written_by="topics apply",
    )


@pytest.mark.parametrize("birth", [_birth("second"), None], ids=["another birth", "no birth"])
async def test_a_log_made_anew_is_noticed_however_long_it_has_become(
    log: ConfigLog, tmp_path: Path, birth: ConfigEntry | None
) -> None:
    """It would pass for the one that was in force, and its organizations for all there are."""
    log.append(b"log/birth", encode(_birth("first")))
    await (await followed(tmp_path)).stop()
    log.records = []
    for number in range(5):
        log.append(f"organization/n{number}".encode(), encode(entry(f"n{number}")))
    if birth is not None:
        log.append(b"log/birth", encode(birth))
    feed = await followed(tmp_path)
    await until(lambda: feed.alarm is not None)
    held, alarm = set(feed.snapshot.organizations), feed.alarm
    accepted = ConfigEntry(
        kind=ADOPTION[0],
        id=ADOPTION[1],
        version=5,
        body=str(feed.snapshot.offset),
        written_at_ms=0,
        written_by="admin",
    )
    log.append(b"log/adopted", encode(accepted))
    await until(lambda: feed.alarm is None and "n0" in feed.snapshot.organizations)
    await feed.stop()

    assert held == {"acme"}
    assert alarm is not None
    assert "another one" in alarm


async def test_outcomes_made_anew_are_the_same_configuration(
    log: ConfigLog, tmp_path: Path
) -> None:
    """Whoever keeps something of the earlier outcomes sees it by their id."""
    log.append(b"log/birth", encode(_birth("first")))
    feed = await followed(tmp_path)
    before = feed.snapshot.birth_id
    log.append(b"log/birth", encode(_birth("first", "p", 2)))
    await until(lambda: feed.snapshot.birth_id == "p")
    await feed.stop()

    assert (before, feed.alarm) == ("o", None)


async def test_a_view_that_lacks_what_others_have_read_is_behind(
    log: ConfigLog, tmp_path: Path
) -> None:
    """Until it has read it as well."""
    feed = await followed(tmp_path)
    assert feed.behind_s == 0
    log.is_away = True
    feed.note_known(1)
    await asyncio.sleep(0.02)
    behind_s = feed.behind_s
    log.is_away = False
    log.append(b"organization/zeta", encode(entry("zeta")))
    await feed.wait_for(1, 5)
    await feed.stop()

    assert behind_s >= 0.02
    assert feed.behind_s == 0
