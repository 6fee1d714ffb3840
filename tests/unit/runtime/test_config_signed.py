"""A process that is told who may write the configuration: a forged record is as if it were not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.codec import encode
from schemas.config_signing import Signer, read_signer, read_verifier
from schemas.config_state import ADOPTION, BIRTH
from schemas.events import ConfigEntry
from schemas.outgoing import config_record, epoch_record
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

ADMIN, ACCOUNTING = read_signer("admin", "01" * 32), read_signer("accounting", "02" * 32)
VERIFIER = read_verifier(f"admin={ADMIN.public},accounting={ACCOUNTING.public}")
LIMITED = '{"limits":{"requests_per_s":3}}'


@pytest.fixture
def signed_log(log: ConfigLog) -> ConfigLog:
    """A log whose one entry is signed."""
    log.records.clear()
    write(log, entry("acme", LIMITED))
    return log


def write(log: ConfigLog, written: ConfigEntry, signer: Signer = ADMIN) -> None:
    """As the control plane does it."""
    record = signer.signed(config_record(written))
    log.append(record.key, record.value, *record.headers)


def compact(log: ConfigLog) -> None:
    """Keep the newest record of each key, whoever wrote it."""
    newest = {record.key: record for record in log.records}
    log.records = [
        record if newest[record.key] is record else LogRecord(record.offset, None, None)
        for record in log.records
    ]


async def test_a_forged_entry_changes_nothing_and_is_told_of(
    signed_log: ConfigLog, tmp_path: Path
) -> None:
    """Neither of the entity that it names nor of others; what is signed after it holds."""
    feed = await followed(tmp_path, VERIFIER)
    signed_log.append(b"organization/acme", encode(entry("acme", version=9)))
    signed_log.append(b"organization/evil", encode(entry("evil")))
    write(signed_log, entry("zeta"))
    await until(lambda: feed.snapshot.offset == 3)
    await feed.stop()

    assert set(feed.snapshot.organizations) == {"acme", "zeta"}
    assert feed.snapshot.organizations["acme"].limits.requests_per_s == 3
    assert feed.snapshot.closed == frozenset()
    assert [(each.offset, each.entity) for each in feed.forgeries] == [
        (1, "organization/acme"),
        (2, "organization/evil"),
    ]


@pytest.mark.parametrize("name", UNREADABLE)
async def test_a_forged_record_that_cannot_be_read_closes_nothing(
    signed_log: ConfigLog, tmp_path: Path, name: str
) -> None:
    """Else whoever can write would close an entity; without signatures it does, because limits never fail open."""
    feed = await followed(tmp_path, VERIFIER)
    signed_log.append(*UNREADABLE[name])
    await until(lambda: feed.snapshot.offset == 1)
    await feed.stop()

    assert feed.snapshot.closed == frozenset()
    assert set(feed.snapshot.organizations) == {"acme"}


async def test_a_forged_record_of_a_newer_version_holds_up_nobody(
    signed_log: ConfigLog, tmp_path: Path
) -> None:
    """It would keep every later change from every process."""
    feed = await followed(tmp_path, VERIFIER)
    signed_log.append(b"organization/acme", NEWER)
    write(signed_log, entry("zeta"))
    await until(lambda: "zeta" in feed.snapshot.organizations)
    await feed.stop()

    assert feed.alarm is None


async def test_what_compaction_has_lost_to_a_forged_record_is_kept_over_a_restart(
    signed_log: ConfigLog, tmp_path: Path
) -> None:
    """From the copy on disk; a process without one does not know the entity, and serves nobody of it."""
    await (await followed(tmp_path / "old", VERIFIER)).stop()
    signed_log.append(b"organization/acme", encode(entry("acme", version=9)))
    write(signed_log, entry("zeta"))
    compact(signed_log)

    again = await followed(tmp_path / "old", VERIFIER)
    new = await followed(tmp_path / "new", VERIFIER)
    await again.stop()
    await new.stop()

    assert again.snapshot.organizations["acme"].limits.requests_per_s == 3
    assert set(new.snapshot.organizations) == {"zeta"}


async def test_an_older_entry_that_was_signed_once_does_not_come_back(
    signed_log: ConfigLog, tmp_path: Path
) -> None:
    """Somebody wrote it again; its signature is good, and its version is not new, also where the newer record is gone."""
    (old,) = signed_log.records
    write(signed_log, entry("acme", '{"limits":{"requests_per_s":1}}', version=2))
    await (await followed(tmp_path, VERIFIER)).stop()
    signed_log.append(old.key, old.value, *old.headers)
    compact(signed_log)

    feed = await followed(tmp_path, VERIFIER)
    await feed.stop()

    assert feed.snapshot.organizations["acme"].limits.requests_per_s == 1


async def test_written_again_to_be_signed_an_entry_is_no_problem_and_mends_the_log(
    log: ConfigLog, tmp_path: Path
) -> None:
    """From before there were signatures: the same entry under the same version, now for processes that know nothing."""
    before = await followed(tmp_path / "old")
    write(log, entry("acme"))
    await until(lambda: before.snapshot.offset == 1)
    await before.stop()
    compact(log)
    after = await followed(tmp_path / "new", VERIFIER)
    await after.stop()

    assert before.snapshot.problems == ()
    assert set(after.snapshot.organizations) == {"acme"}


async def test_a_log_from_before_serves_a_process_with_a_copy_of_it(
    log: ConfigLog, tmp_path: Path
) -> None:
    """Signatures were asked for before anything was signed: what was in force stays, and none of it is told as forged."""
    await (await followed(tmp_path)).stop()

    feed = await followed(tmp_path, VERIFIER)
    await feed.stop()

    assert set(feed.snapshot.organizations) == {"acme"}
    assert not feed.forgeries


async def test_accounting_announces_epochs_and_cannot_write_limits(
    signed_log: ConfigLog, tmp_path: Path
) -> None:
    """Nor can anybody announce an epoch who is not it."""
    for record in (epoch_record(0, 2, 7), epoch_record(1, 10**9, 7)):
        sent = ACCOUNTING.signed(record) if record.key.endswith(b"0") else record
        signed_log.append(sent.key, sent.value, *sent.headers)
    write(signed_log, entry("acme", version=2), ACCOUNTING)
    feed = await followed(tmp_path, VERIFIER)
    await feed.stop()

    assert feed.snapshot.ledger_epochs == {0: 2}
    assert feed.snapshot.organizations["acme"].limits.requests_per_s == 3


@pytest.mark.parametrize("kind", [ADOPTION, BIRTH])
async def test_nobody_makes_processes_take_another_log_or_hold_this_one(
    signed_log: ConfigLog, tmp_path: Path, kind: tuple[str, str]
) -> None:
    """The acceptance of a shorter log, and which log this is, are signed as well."""
    birth = ConfigEntry(
        kind=BIRTH[0],
        id=BIRTH[1],
        version=5,
        body='{"config":"a","outcomes":"b"}',
        written_at_ms=0,
        written_by="topics apply",
    )
    write(signed_log, birth)
    await (await followed(tmp_path, VERIFIER)).stop()
    body = "99" if kind == ADOPTION else '{"config":"x","outcomes":"y"}'
    forged = ConfigEntry(
        kind=kind[0], id=kind[1], version=10**13, body=body, written_at_ms=0, written_by="me"
    )
    signed_log.append("/".join(kind).encode(), encode(forged))
    compact(signed_log)
    feed = await followed(tmp_path, VERIFIER)
    await feed.stop()

    assert feed.alarm is None
    assert feed._state.accepted_below == -1
    assert feed._state.birth is not None
    assert feed._state.birth.config == "a"


async def test_what_was_told_of_once_is_not_told_again_after_a_restart(
    signed_log: ConfigLog, tmp_path: Path
) -> None:
    """The record stays in the log until it is compacted; the copy on disk says how far this process had read."""
    feed = await followed(tmp_path, VERIFIER)
    signed_log.append(b"organization/acme", encode(entry("acme", version=9)))
    write(signed_log, entry("zeta"))
    await until(lambda: (copy := feed._copy.read()) is not None and copy.offset == 2)
    await feed.stop()

    again = await followed(tmp_path, VERIFIER)
    await again.stop()

    assert len(feed.forgeries) == 1
    assert not again.forgeries


def test_the_same_entry_again_is_no_problem_and_another_under_its_version_is() -> None:
    """Who signs all that is in force writes each entry as it is."""
    known = state(entry("acme"))

    assert known.apply(entry("acme"), 1) is None
    assert known.apply(entry("acme", LIMITED), 2) is not None
