"""A shard whose keys a version of another layout wrote is made again with all that only that store knew."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator

import msgspec
import pytest_asyncio

from schemas.codec import encode
from schemas.events import RequestFinished
from schemas.ids import uuid7
from schemas.ledger import answers, documents, keys
from schemas.outgoing import outcome_record
from schemas.runtime.ledger.client import ledger_store
from schemas.topics import OUTCOMES
from tests.support.events import attempt, finished
from tests.support.harness.ledger_server import LedgerServer
from tests.support.one_shard import SHARD
from tests.support.rebuild_scene import RebuildScene

_KEY, _PRINT, _INFO = "a" * 64, "b" * 64, '["fake-1",0]'
_HOUR_MS = 3_600_000


@pytest_asyncio.fixture
async def scene(server: LedgerServer) -> AsyncIterator[RebuildScene]:
    """A store that knows nothing yet."""
    store = ledger_store(server.url)
    await store.start()
    await store.call("FLUSHALL")
    await store.call("HSET", "meta", "epoch", "1", "ready", "1")
    yield RebuildScene(store, int(time.time() * 1_000), random.Random(7))
    await store.stop()


def _outcome(scene: RebuildScene, number: int) -> RequestFinished:
    at_ms = scene.now_ms - 1_000
    return msgspec.structs.replace(
        finished([attempt(1, cost_nano_usd=5, finished_at_ms=at_ms)], []),
        request_id=uuid7(at_ms - 500, number.to_bytes(10)),
        org="acme",
        accepted_at_ms=at_ms - 500,
        finished_at_ms=at_ms,
        deadline_ms=at_ms + 60_000,
    )


async def _claimed(scene: RebuildScene, req: str, key_hash: str) -> None:
    key, at_ms = f"{{acme}}:k:{key_hash}", scene.now_ms
    fields = ("request_id", req, "fingerprint", _PRINT, "produce_by_ms", str(at_ms + 30_000))
    await scene.store.call("HSET", key, *fields, "deadline_ms", str(at_ms + 60_000))
    await scene.store.call("PEXPIREAT", key, str(at_ms + 20 * _HOUR_MS))


async def _promised(scene: RebuildScene, req: str, *more: str) -> None:
    key = f"{{acme}}:a:{req}"
    await scene.store.call("HSET", key, "job", _INFO, *more)
    await scene.store.call("PEXPIREAT", key, str(scene.now_ms + 70 * _HOUR_MS))
    await scene.store.call("ZADD", "{acme}:jobs", str(scene.now_ms), req)


async def _claim(scene: RebuildScene, key_hash: str) -> object:
    now_ms = scene.now_ms
    return await scene.ledger.claim(
        documents.Claim(
            org="acme",
            key_hash=key_hash,
            fingerprint=_PRINT,
            req=uuid7(now_ms, (99).to_bytes(10)),
            produce_by_ms=now_ms + 1_000,
            deadline_ms=now_ms + 60_000,
            limit=10,
        )
    )


async def _listed(scene: RebuildScene) -> dict[str, str | None]:
    page = await scene.ledger.jobs(documents.ListJobs(org="acme", limit=10))
    return {entry.req: entry.ends for entry in page.entries}


async def test_keys_jobs_and_tombstones_are_taken_over(scene: RebuildScene) -> None:
    """Of one that ended, which a later loss of the store does not forget either, and of one that did not."""
    ended, waits, cancelled = (_outcome(scene, n).request_id for n in range(3))
    scene.log.append(outcome_record(_outcome(scene, 0), "dispatcher"), SHARD, scene.now_ms)
    await _claimed(scene, ended, _KEY)
    await _promised(scene, ended, "state", "FINISHED", "booked", "0:0", "ends", "[200]")
    await _claimed(scene, waits, "c" * 64)
    await _promised(scene, waits, "state", "RESERVED")
    await scene.store.call("HSET", f"{{acme}}:a:{cancelled}", "state", "CANCELLED")

    await scene.rebuild(scene.build(2))
    for key_hash, holder in ((_KEY, ended), ("c" * 64, waits)):
        held = await _claim(scene, key_hash)
        assert isinstance(held, answers.Held)
        assert held.req == holder
    listed = await _listed(scene)
    assert listed.keys() == {ended, waits}
    assert listed[ended]
    tombstone = keys.attempt(SHARD, "acme", cancelled)
    assert await scene.store.call("HGET", tombstone, "state") == b"CANCELLED"

    await scene.store.call("FLUSHALL")
    await scene.rebuild(scene.build(3))
    held = await _claim(scene, _KEY)
    assert isinstance(held, answers.Held)
    assert held.req == ended
    assert await _listed(scene) == {ended: listed[ended]}


async def test_an_outcome_that_nobody_booked_comes_into_the_log(scene: RebuildScene) -> None:
    """Its dispatcher had finished it, and was killed before it was produced."""
    outcome = _outcome(scene, 0)
    key = f"{{acme}}:a:{outcome.request_id}"
    await scene.store.call("HSET", key, "state", "FINISHED", "outcome", encode(outcome))
    await scene.store.call("ZADD", "fin", "1", f"acme|{outcome.request_id}")
    await scene.rebuild(scene.build(2))
    found = [r for at, rs in scene.log.partitions.items() if at.topic == OUTCOMES for r in rs]
    assert [record.value for record in found] == [encode(outcome)]
