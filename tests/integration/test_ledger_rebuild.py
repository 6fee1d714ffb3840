"""A shard is made again from the log on a real store: equal to what it was, whoever is killed or wakes up."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from os import urandom
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from accounting.rebuild.build import Overtaken
from accounting.rebuild.trial import Difference, try_rebuild
from schemas.codec import encode
from schemas.ids import uuid7
from schemas.ledger import answers
from schemas.ledger.documents import Admit, BroughtKey, Cancel, Reap
from schemas.ledger.errors import LedgerNotReady
from schemas.outgoing import admitted_record
from schemas.runtime.ledger.client import ledger_store
from tests.support.events import accepted, admitted, hold
from tests.support.harness.ledger_server import LedgerServer
from tests.support.one_shard import META_KEY, ONE_SHARD, SHARD
from tests.support.rebuild_scene import Killed, MortalLedger, RebuildScene

_OUTCOMES = 60


@pytest_asyncio.fixture
async def scene(server: LedgerServer) -> AsyncIterator[RebuildScene]:
    """A shard that booked a minute of outcomes."""
    store = ledger_store(server.url)
    await store.start()
    await store.call("FLUSHALL")
    await store.call("HSET", META_KEY, "epoch", "1", "ready", "1", "layout", "2")
    made = RebuildScene(store, int(time.time() * 1_000), random.Random(7))
    await made.live(_OUTCOMES)
    yield made
    await store.stop()


def _money(dump: dict[str, Any]) -> dict[str, Any]:
    """Totals and usage hours as they are, and what is settled of balances."""
    found: dict[str, Any] = {}
    for key, fields in dump.items():
        if "|t:" in key or "|u:" in key:
            found[key] = {k: int(v) for k, v in fields.items() if int(v)}
            found[key].pop(b"late", None)
        elif "|b:" in key:
            found[key] = int(fields[b"settled"])
    return found


def _marks(dump: dict[str, Any]) -> dict[str, Any]:
    return {
        key: {k: v for k, v in fields.items() if k.startswith(b"booked") or k == b"ran"}
        for key, fields in dump.items()
        if "|a:" in key
    }


@pytest.mark.parametrize("is_lost", [True, False])
async def test_a_rebuilt_shard_is_what_it_was(scene: RebuildScene, is_lost: bool) -> None:
    """Emptied or still there; totals, hours, balances and the place of each request."""
    before = await scene.dump()
    if is_lost:
        await scene.store.call("FLUSHALL")
    await scene.rebuild(scene.build(2))
    after = await scene.dump()

    assert _money(after) == _money(before)
    assert _marks(after).keys() == _marks(before).keys()
    for key, mark in _marks(after).items():
        assert {k: v for k, v in mark.items() if k != b"ran"} == {
            k: v for k, v in _marks(before)[key].items() if k != b"ran"
        }
    assert after["{0}|meta"][b"ready"] == after["{0}|meta"][b"complete"] == b"1"


async def test_what_comes_after_it_is_booked_once(scene: RebuildScene) -> None:
    """A copy of what is folded is a copy, and the next outcome is not."""
    await scene.store.call("FLUSHALL")
    await scene.rebuild(scene.build(2))
    before = _money(await scene.dump())

    assert await scene.book(scene.ended[-1], scene.now_ms) == ("DUPLICATE",)
    assert _money(await scene.dump()) == before


async def test_killed_at_any_call_the_next_rebuild_makes_the_same(scene: RebuildScene) -> None:
    """Whatever the first owner had written by then."""
    await scene.store.call("FLUSHALL")
    whole = MortalLedger(scene.store, ONE_SHARD)
    await scene.rebuild(scene.build(2, whole))
    expected = await scene.dump()
    for number in range(whole.calls):
        dying = MortalLedger(scene.store, ONE_SHARD)
        dying.dies_at = number
        with pytest.raises(Killed):
            await scene.rebuild(scene.build(10 + 2 * number, dying))
        await scene.rebuild(scene.build(11 + 2 * number))
        assert await scene.dump() == expected, f"killed at call {number}"


async def test_an_owner_that_wakes_up_writes_nothing(scene: RebuildScene) -> None:
    """Stopped at any call, overtaken, and going on: the second owner's result stands."""
    whole = MortalLedger(scene.store, ONE_SHARD)
    await scene.rebuild(scene.build(2, whole))
    expected = await scene.dump()
    for number in range(1, whole.calls):
        asleep = MortalLedger(scene.store, ONE_SHARD)
        asleep.dies_at = number
        first = scene.build(10 + 2 * number, asleep)
        with suppress(Killed):
            await scene.rebuild(first)
        second = scene.build(11 + 2 * number)
        await second.begin()
        asleep.dies_at = -1
        for step in (first.salvage, first.unlink, first.open):
            with pytest.raises(Overtaken):
                await step()
        await scene.rebuild(second)
        with pytest.raises(Overtaken):
            await first.unlink()
        assert await scene.dump() == expected


async def test_a_trial_says_what_a_rebuild_would_change(scene: RebuildScene) -> None:
    """And changes nothing."""
    build = scene.build(2)
    found = await try_rebuild(SHARD, build.parts, scene.log)
    assert not found.differences
    org = scene.ended[0].org
    key = f"{{0}}|{org}|t:org/nano_usd:total"
    settled = int(await scene.store.call("HGET", key, "settled"))
    await scene.store.call("HINCRBY", key, "settled", "7")
    before = await scene.dump()
    found = await try_rebuild(SHARD, build.parts, scene.log)
    assert found.differences == (Difference(org, "b:org/nano_usd:total", settled + 7, settled),)
    assert await scene.dump() == before


async def test_nobody_begins_under_an_epoch_that_was(scene: RebuildScene) -> None:
    """Two that chose the same epoch: one of them builds."""
    await scene.build(5).begin()
    other = scene.build(5)
    other.building = "5:other"
    with pytest.raises(Overtaken):
        await other.begin()
    older = scene.build(4)
    with pytest.raises(Overtaken):
        await older.begin()


async def test_whoever_may_have_ended_waits_for_the_marks(scene: RebuildScene) -> None:
    """The shard is open for all others meanwhile; nothing is booked, and what ended runs no more afterwards."""
    event, now_ms = scene.ended[-1], scene.now_ms
    times: dict[str, Any] = {"accepted_ms": now_ms, "deadline_ms": now_ms + 60_000}
    ended = Admit(org=event.org, req=event.request_id, **times)
    foreign = Admit(org=event.org, req="not-one-of-ours", **times)
    new = [Admit(org=event.org, req=uuid7(now_ms, urandom(10)), **times) for _ in range(40)]
    await scene.store.call("FLUSHALL")
    build = scene.build(2)
    await scene.rebuild(build, until_open=True)
    waits, other, *at_once = await scene.ledger.admit_many([ended, foreign, *new])
    decided = [each for each in at_once if isinstance(each, answers.Admitted)]

    assert isinstance(waits, LedgerNotReady)
    assert isinstance(other, LedgerNotReady)
    assert len(decided) > len(new) * 0.8
    tombstone = Cancel(org=event.org, req=event.request_id, deadline_ms=now_ms, incarnation_ms=1)
    with pytest.raises(LedgerNotReady):
        await scene.ledger.cancel(tombstone)
    with pytest.raises(LedgerNotReady):
        await scene.book(event, now_ms)
    await scene.complete(build)
    assert await scene.ledger.admit(ended) == answers.Duplicate(state="BOOKED")
    assert isinstance(await scene.ledger.admit(foreign), answers.Admitted)
    assert await scene.book(event, now_ms) == ("DUPLICATE",)
    assert await scene.store.call("EXISTS", "{0}|awaited") == 0


async def test_nobody_is_written_off_whose_outcome_may_wait_for_the_marks(
    scene: RebuildScene,
) -> None:
    """An owner's two leases begin when marks are back, however long that took."""
    request_id = uuid7(scene.now_ms, b"open------")
    request = accepted(
        org="acme",
        request_id=request_id,
        accepted_at_ms=scene.now_ms,
        deadline_ms=scene.now_ms + 1_000,
    )
    admission = admitted(request, encode(request), holds=[hold("b:org/x:total", "tokens", 9)])
    more = {"request_id": request_id.encode()}
    scene.log.append(admitted_record(admission, SHARD, more), 0, scene.now_ms)
    await scene.store.call("FLUSHALL")
    await scene.store.call("HSET", META_KEY, "test_clock", "1")
    build = scene.build(2)
    await scene.rebuild(build, until_open=True)
    long_after_us = (scene.now_ms + 90_000) * 1_000

    waits = await scene.ledger.reap(SHARD, Reap(limit=9, grace_ms=0, now_us=long_after_us))
    await scene.store.call("HSET", META_KEY, "marks", "1")
    written_off = await scene.ledger.reap(
        SHARD, Reap(limit=9, grace_ms=0, now_us=long_after_us + 60_000_000)
    )
    assert not waits.entries
    assert [entry.req for entry in written_off.entries] == [request_id]


async def test_a_tombstone_that_nobody_heard_does_not_hide_what_ended(scene: RebuildScene) -> None:
    """A store that came back older knows the tombstone, and not that a later incarnation ran."""
    event, now_ms = scene.ended[-1], scene.now_ms
    await scene.store.call("FLUSHALL")
    key = f"{{0}}|{event.org}|a:{event.request_id}"
    await scene.store.call("HSET", key, "state", "CANCELLED", "inc", "5")
    await scene.rebuild(scene.build(2), until_open=True)
    again = Admit(
        org=event.org,
        req=event.request_id,
        incarnation_ms=6,
        accepted_ms=now_ms,
        deadline_ms=now_ms + 60_000,
    )

    with pytest.raises(LedgerNotReady):
        await scene.ledger.admit(again)


async def test_a_shard_is_closed_until_it_is_whole(scene: RebuildScene) -> None:
    """Nothing is booked while it is built."""
    await scene.build(2).begin()
    with pytest.raises(LedgerNotReady):
        await scene.book(scene.ended[0], scene.now_ms)


async def test_a_store_that_was_replaced_meanwhile_is_not_opened(scene: RebuildScene) -> None:
    """What was written may not be there: the next owner, or the same, begins anew."""
    build = scene.build(2)
    await build.begin()
    await scene.store.call("HSET", META_KEY, "run_id", "another")
    with pytest.raises(Overtaken):
        await build.open()


async def test_tombstones_outlive_a_rebuild(scene: RebuildScene) -> None:
    """What was cancelled before it ran stays so, and other shards are left alone."""
    await scene.store.call("HSET", "{0}|acme|a:gone", "state", "CANCELLED", "inc", "5")
    await scene.store.call("HSET", "{1}|acme|a:other", "state", "RUNNING")
    await scene.store.call("HSET", "{0}|acme|a:held", "state", "RESERVED", "inc", "5")
    await scene.rebuild(scene.build(2))

    assert await scene.store.call("HGET", "{0}|acme|a:gone", "state") == b"CANCELLED"
    assert await scene.store.call("HGET", "{1}|acme|a:other", "state") == b"RUNNING"
    assert await scene.store.call("EXISTS", "{0}|acme|a:held") == 0


async def test_what_only_the_old_store_had_is_in_the_log_first(scene: RebuildScene) -> None:
    """An outcome that was settled and never produced is salvaged, and folded once."""
    event = msgspec.structs.replace(
        scene.ended[0], request_id=uuid7(scene.now_ms, b"salvaged--"), fence=5
    )
    before = _money(await scene.dump())
    key = f"{{0}}|{event.org}|a:{event.request_id}"
    await scene.store.call("HSET", key, "state", "FINISHED", "outcome", encode(event))
    await scene.store.call("ZADD", "{0}|fin", "1", f"{event.org}|{event.request_id}")
    await scene.rebuild(scene.build(2))
    after = _money(await scene.dump())

    booked = {b.key: b.amount for b in event.bookings}
    for suffix, amount in booked.items():
        balance = f"{{0}}|{event.org}|{suffix}"
        assert after[balance] == before[balance] + amount


async def test_open_admissions_hold_twice_what_they_held(scene: RebuildScene) -> None:
    """Until somebody says how far each came; one with an outcome holds nothing."""
    ended = scene.ended[-1]
    for number, (org, request_id) in enumerate(
        (("acme", uuid7(scene.now_ms, b"open------")), (ended.org, ended.request_id))
    ):
        request = accepted(
            org=org,
            request_id=request_id,
            accepted_at_ms=scene.now_ms,
            deadline_ms=scene.now_ms + 60_000,
        )
        admission = admitted(request, encode(request), holds=[hold("b:org/x:total", "tokens", 9)])
        more = {"request_id": request_id.encode()}
        scene.log.append(admitted_record(admission, SHARD, more), number, scene.now_ms)
    await scene.store.call("FLUSHALL")
    await scene.rebuild(scene.build(2))

    flat = await scene.store.call("HMGET", "{0}|acme|b:org/x:total", "reserved", "spare")
    assert flat == [b"9", b"9"]
    assert await scene.store.call("ZCARD", "{0}|exp") == 1


async def test_a_request_with_a_key_is_decided_once_keys_are_back(scene: RebuildScene) -> None:
    """Before that nobody knows whose the key is; one without a key does not wait."""
    now_ms = scene.now_ms
    times: dict[str, Any] = {"accepted_ms": now_ms, "deadline_ms": now_ms + 60_000}
    keyed = Admit(org="acme", req="r1", key=BroughtKey(key_hash="k", fingerprint="f"), **times)
    await scene.store.call("HSET", META_KEY, "claims", "0")
    waits, plain = await scene.ledger.admit_many([keyed, Admit(org="acme", req="r2", **times)])
    await scene.store.call("HSET", META_KEY, "claims", "1")

    assert isinstance(waits, LedgerNotReady)
    assert isinstance(plain, answers.Admitted)
    assert isinstance(await scene.ledger.admit(keyed), answers.Admitted)
    assert await scene.store.call("HGET", "{0}|acme|k:k", "request_id") == b"r1"
