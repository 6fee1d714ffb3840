"""A ledger that never stands still is compared exactly: holds, what is settled and not booked, what is booked.

On a real store, at every step of a request's life; the oracle is the amounts that the test itself chose.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from ingress.admin.finance.comparison import portions
from ingress.admin.finance.ledger_tables import busy_organizations, examine, look, shard_states
from ingress.admin.finance.verify import OrgKeys, OrgTables, balance_differences
from schemas.codec import encode
from schemas.events import Booking
from schemas.ledger import answers, calls, documents
from schemas.ledger.keys import of_org, of_shard
from schemas.runtime.ledger.client import LedgerClient, ledger_store
from schemas.runtime.valkey.cold_store import ask
from tests.support.events import attempt, finished
from tests.support.harness.ledger_server import LedgerServer
from tests.support.one_shard import META_KEY, ONE_SHARD, SHARD

MONTH: Final = "b:org/tokens:2026-11"
HELD: Final = 100
SPENT: Final = 46
WANTED: Final = OrgKeys((MONTH,), ("2026-11-26T07",))


class Scene:
    """One organization in a ledger of its own, beside a store for scans."""

    def __init__(self, ledger: LedgerClient, cold: Redis) -> None:
        self.ledger = ledger
        self.cold = cold
        self.now_ms = time.time_ns() // 1_000_000

    async def running(self, req: str) -> int:
        """Admits and starts; the fence."""
        hold = documents.Balance(key=MONTH, unit="tokens", amount=HELD, id="m", start_ms=0)
        admit = documents.Admit(
            org="acme",
            req=req,
            deadline_ms=self.now_ms + 60_000,
            accepted_ms=self.now_ms,
            balances=(hold,),
        )
        assert isinstance(await self.ledger.admit(admit), answers.Admitted)
        start = documents.Start(org="acme", req=req, owner="d", lease_ms=10_000)
        claimed = await self.ledger.start(start)
        assert isinstance(claimed, answers.Fence)
        return claimed.fence

    async def finished(self, req: str) -> None:
        """Runs and ends, with an outcome that says what was spent."""
        fence = await self.running(req)
        booking = Booking(key=MONTH, unit="tokens", amount=SPENT)
        outcome = encode(finished([attempt()], [booking], request_id=req))
        document = documents.Finish(org="acme", req=req, fence=fence, actual={"tokens": SPENT})
        assert await self.ledger.finish(document, outcome) == answers.Ok()

    async def booked(self, req: str, offset: int) -> None:
        """Its outcome is read from the log."""
        row = documents.OutcomeRow(
            offset=offset,
            at_ms=self.now_ms,
            req=req,
            deadline_ms=self.now_ms + 60_000,
            ran=True,
            bookings=(documents.Booking(key=MONTH, unit="tokens", amount=SPENT),),
        )
        await self.ledger.book(documents.Book(org="acme", partition=SHARD, rows=(row,)))

    async def examined(self) -> OrgTables:
        """The tables at one instant."""
        return await examine(self.cold, SHARD, "acme", WANTED)

    async def differences(self) -> dict[tuple[str, str], tuple[int, int]]:
        """By balance and field, what the ledger has and what speaks for it."""
        found = balance_differences("acme", await self.examined())
        return {(each.what, each.field): (each.ledger, each.log) for each in found}


@pytest_asyncio.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    """A ledger of one shard that is ready."""
    server = LedgerServer(tmp_path / "ledger")
    server.start()
    store = ledger_store(server.url)
    await store.start()
    cold = Redis.from_url(server.url)
    ledger = LedgerClient(store, ONE_SHARD)
    await ledger.init(SHARD)
    yield Scene(ledger, cold)
    await cold.aclose()
    await store.stop()
    server.kill()


async def test_nothing_differs_at_any_step_of_a_request(scene: Scene) -> None:
    """While one runs, one is settled and not booked, and one is booked."""
    assert await scene.differences() == {}
    for step in (
        scene.running("r1"),
        scene.finished("r2"),
        scene.finished("r3"),
        scene.booked("r3", 5),
    ):
        await step
        assert await scene.differences() == {}

    tables = await scene.examined()

    assert tables.balances[MONTH] == {"reserved": HELD, "settled": 2 * SPENT}
    assert (tables.totals[MONTH], tables.reached) == ({"settled": SPENT}, 5)
    assert tables.under_way is not None
    assert tables.under_way.requests[MONTH] == ("r1", "r2")
    assert await busy_organizations(scene.cold, ONE_SHARD) == {"acme"}


async def test_what_a_rebuild_folded_is_reached(scene: Scene) -> None:
    """Its lines may be written later, when accounting reads those outcomes again."""
    await scene.finished("r1")
    await scene.booked("r1", 5)
    await scene.cold.hset(META_KEY, "folded", "9")

    assert (await scene.examined()).reached == 9


async def test_an_attempt_that_was_written_off_speaks_for_what_it_was_booked_at(
    scene: Scene,
) -> None:
    """Its owner vanished; the log has nothing of it yet."""
    await scene.running("r1")
    later_us = (scene.now_ms + 50_000) * 1_000
    await scene.cold.hset(META_KEY, "test_clock", "1")
    for after_us in (0, 25_000_000):
        reap = documents.Reap(limit=10, grace_ms=0, now_us=later_us + after_us)
        await scene.ledger.reap(SHARD, reap)

    tables = await scene.examined()

    assert tables.balances[MONTH] == {"reserved": 0, "settled": HELD}
    assert await scene.differences() == {}


async def test_a_request_of_an_earlier_life_speaks_for_its_hold_twice(scene: Scene) -> None:
    """From its restoration until its owner, in the second attempt, has ended it."""
    await scene.cold.hset(META_KEY, "building", "2:token")
    hold = documents.Balance(key=MONTH, unit="tokens", amount=HELD, id="m", start_ms=0)
    times: dict[str, Any] = {"deadline_ms": scene.now_ms + 60_000, "accepted_ms": scene.now_ms}
    restored = documents.RestoredRequest(org="acme", req="r1", balances=(hold,), **times)
    restore = documents.Restore(building="2:token", attempts=(restored,))
    assert await ask(scene.cold, calls.restore(SHARD, restore)) == answers.Ok()

    doubled = (await scene.examined()).balances[MONTH]
    before = await scene.differences()
    attach = documents.Attach(
        org="acme",
        req="r1",
        owner="d",
        lease_ms=10_000,
        fence=7,
        attempt=2,
        first=documents.FirstAttempt(verdict="FAILED", fence=6, actual={"tokens": 30}),
        readmit=documents.Readmission(balances=(hold,), **times),
    )
    assert await scene.ledger.attach(attach) == answers.Ok()

    assert (doubled, before) == ({"reserved": HELD, "spare": HELD}, {})
    assert (await scene.examined()).balances[MONTH] == {"reserved": HELD, "spare": 0, "settled": 30}
    assert await scene.differences() == {}


@pytest.mark.parametrize("field", ["settled", "reserved", "spare", "over", "late"])
async def test_a_field_that_was_changed_by_hand_is_named_while_requests_run(
    scene: Scene, field: str
) -> None:
    """To the unit, also where the balance is not asked for."""
    await scene.running("r1")
    await scene.finished("r2")
    await scene.cold.hincrby(of_org(SHARD, "acme", MONTH), field, 7)

    ((where, (ledger, log)),) = (await scene.differences()).items()

    assert (where, ledger - log) == ((MONTH, field), 7)
    seen = await examine(scene.cold, SHARD, "acme", OrgKeys())
    assert [each.what for each in balance_differences("acme", seen)] == [MONTH]


async def test_a_total_that_was_changed_by_hand_is_seen_at_a_look(scene: Scene) -> None:
    """Nothing is under way, so a look is enough."""
    await scene.finished("r1")
    await scene.booked("r1", 0)
    assert balance_differences("acme", await look(scene.cold, SHARD, "acme", WANTED)) == []

    await scene.cold.hincrby(of_org(SHARD, "acme", f"t{MONTH[1:]}"), "settled", -1)
    (found,) = balance_differences("acme", await look(scene.cold, SHARD, "acme", WANTED))

    assert (found.field, found.ledger, found.log) == ("settled", SPENT, SPENT - 1)


async def test_of_too_many_attempts_none_is_judged(scene: Scene) -> None:
    """Reading them at one instant would make clients wait."""
    await asyncio.gather(*(scene.running(f"r{number}") for number in range(3)))
    listed = {f"other|{number}": number for number in range(2_000)}
    await scene.cold.zadd(of_shard(SHARD, "fin"), listed)

    tables = await scene.examined()

    assert tables.under_way is None
    assert await scene.differences() == {}


async def test_a_shard_says_whether_it_can_be_compared(scene: Scene) -> None:
    """One that is closed says why, and one without a `meta` has lost everything."""
    (opened,) = (await shard_states(scene.cold, ONE_SHARD)).values()
    await scene.cold.hset(META_KEY, mapping={"ready": "0", "why": "restarted"})
    (closed,) = (await shard_states(scene.cold, ONE_SHARD)).values()
    await scene.cold.delete(META_KEY)
    (lost,) = (await shard_states(scene.cold, ONE_SHARD)).values()

    assert (opened.is_ready, opened.is_complete) == (True, True)
    assert (closed.is_ready, closed.why) == (False, "restarted")
    assert (lost.is_ready, lost.why) == (False, "it is empty")


def test_what_is_read_at_once_is_bounded() -> None:
    """A call of the store takes a few tables; what is under way is read also without any."""
    many = OrgKeys(
        tuple(f"b:{n}" for n in range(20)), tuple(f"2026-11-26T{n:02}" for n in range(9))
    )

    parts = portions(many)

    assert [(len(part.balances), len(part.hours)) for part in parts] == [(16, 4), (4, 4), (0, 1)]
    assert portions(OrgKeys()) == [OrgKeys()]
