"""The Lua ledger on a real Valkey and the Python model agree, whatever happens in whatever order.

After every call the answers and the whole state are compared, and the books are checked: no overspend,
reserved amounts are exactly the open holds, and no key of a request that ran executes again. Hours pass,
the store is away, periods roll over, and its clock is moved in both directions.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from schemas.ledger import answers, calls
from schemas.ledger.calls import Call
from schemas.ledger.documents import (
    Admit,
    Attach,
    Balance,
    Book,
    Booking,
    Cancel,
    NextAttempt,
    OutcomeRow,
    Rate,
    Readmission,
    Reap,
    Renew,
    Restore,
    RestoredRequest,
    Start,
    TakeSnapshot,
)
from schemas.ledger.model.ledger import LedgerModel
from schemas.runtime.ledger.script import library
from tests.integration.ledger_book_rules import BookRules
from tests.integration.ledger_machine import BASE_MS
from tests.integration.ledger_state import Store, modelled_state, nonzero, stored_state
from tests.support.harness.ledger_server import LedgerServer, free_ports
from tests.support.one_shard import META_KEY, SHARD

EXAMPLES = max(200, settings().max_examples)
"""More of them where cases are random: see conftest.py."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A ledger store with the functions loaded, for this module alone: a cluster, so that none of them
    touches two slots."""
    port, cluster_port = free_ports(2)
    settings = f"cluster-enabled yes\ncluster-port {cluster_port}\n"
    folder = Path(tmp_path_factory.mktemp("ledger")) / "data"
    server = LedgerServer(folder, port, more_settings=settings)
    server.start()
    with redis.Redis(port=server.port) as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        while b"cluster_state:ok" not in client.execute_command("CLUSTER", "INFO"):
            time.sleep(0.02)
        client.function_load(library(), replace=True)
        yield client
    server.kill()


@pytest.mark.timeout(3_000)
def test_lua_and_model_agree(store: Store) -> None:
    """Random calls, repeated, late and with old fences, give equal answers and equal books."""
    machine = type("Comparison", (BookRules,), {"store": store})
    assert settings.default is not None
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=50,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_a_bucket_is_exact_at_any_rate(store: Store) -> None:
    """A thousand charges at awkward rates leave the very fraction that the model computes."""
    chance = random.Random(1)
    for rate_milli in (3_000, 7, 999_999_937, 33_333_333_333):
        store.flushdb()
        store.hset(META_KEY, mapping={"epoch": 1, "ready": 1, "test_clock": 1})
        model, now_us = LedgerModel(1), BASE_MS * 1000
        for n in range(250):
            rate = Rate(
                key="r:x",
                id="x",
                cost=chance.choice((1, 3, 1_234_567, 30_000_000)),
                burst=60_000_000,
                rate_milli_per_s=rate_milli,
            )
            now_us += chance.choice((0, 1, 12_345))
            doc = Admit(
                org="acme",
                req=f"r{n}",
                deadline_ms=BASE_MS * 2,
                accepted_ms=BASE_MS,
                rates=(rate,),
                now_us=now_us,
            )
            call = calls.admit(SHARD, doc)
            assert call.decode(store.execute_command(*call.command)) == model.admit(doc, now_us)


def test_the_first_attempt_is_reported_with_what_was_booked(store: Store) -> None:
    """Reap hands back what became of attempt 1, exactly as the model does."""
    store.flushdb()
    store.hset(META_KEY, mapping={"epoch": 1, "ready": 1, "test_clock": 1})
    model, now_us = LedgerModel(1), BASE_MS * 1000
    tokens = Balance(key="b:key:total", unit="tokens", amount=9, start_ms=0)
    admit = Admit(
        org="acme",
        req="r",
        deadline_ms=BASE_MS + 1_000,
        accepted_ms=BASE_MS,
        balances=(tokens,),
        now_us=now_us,
    )
    start = Start(org="acme", req="r", owner="d1", lease_ms=100, now_us=now_us)
    failover = NextAttempt(
        org="acme",
        req="r",
        fence=2**32 + 1,
        may_have_spent=True,
        second=(tokens,),
        estimate={"tokens": 4},
        now_us=now_us,
    )
    reap = Reap(limit=10, now_us=now_us + 60_000_000)
    for call in (
        calls.admit(SHARD, admit),
        calls.start(SHARD, start),
        calls.next_attempt(SHARD, failover),
    ):
        store.execute_command(*call.command)
    model.admit(admit, now_us)
    model.start(start, now_us)
    model.next_attempt(failover, now_us)
    listed = calls.reap(SHARD, reap).decode(store.execute_command(*calls.reap(SHARD, reap).command))
    assert listed == model.reap(reap, now_us + 60_000_000)
    assert listed.entries[0].first is not None
    assert listed.entries[0].first.booked == (Booking(key="b:key:total", unit="tokens", amount=4),)
    snapshot = calls.snapshot(SHARD, TakeSnapshot(org="acme", balances=("b:key:total",)))
    read = snapshot.decode(store.execute_command(*snapshot.command))
    assert nonzero(read.balances["b:key:total"]) == {"settled": 13}


def test_what_an_owner_attached_is_the_same_in_both(store: Store) -> None:
    """Its spare returns with a late renewal; an outcome of an earlier life settles it while it runs."""
    store.flushdb()
    store.hset(META_KEY, mapping={"epoch": 7, "ready": 1, "test_clock": 1, "building": "7:b"})
    store.hset(META_KEY, "ready_ms", BASE_MS)
    model, now_us = LedgerModel(7), BASE_MS * 1000
    model.building, model.ready_ms = "7:b", BASE_MS
    tokens = Balance(key="b:key:total", unit="tokens", amount=9, start_ms=0)
    hold: dict[str, Any] = {
        "deadline_ms": BASE_MS + 99_000,
        "accepted_ms": BASE_MS,
        "balances": (tokens,),
    }
    entry = RestoredRequest(org="acme", req="r", **hold)
    fence = 6 * 2**32 + 1
    owner: dict[str, Any] = {"org": "acme", "req": "r", "lease_ms": 10_000, "fence": fence}

    def agree(call: Call[Any], modelled: object) -> None:
        assert call.decode(store.execute_command(*call.command)) == modelled
        assert stored_state(store, now_us) == modelled_state(model, now_us)

    restore = Restore(building="7:b", attempts=(entry,), now_us=now_us)
    agree(calls.restore(SHARD, restore), model.restore(restore))
    attach = Attach(owner="d", attempt=1, readmit=Readmission(**hold), now_us=now_us, **owner)
    agree(calls.attach(SHARD, attach), model.attach(attach, now_us))
    assert model.limits.balances["acme", "b:key:total"]["spare"] == 9
    now_us += 20_000_000
    renew = Renew(now_us=now_us, **owner)
    agree(calls.renew(SHARD, renew), model.renew(renew, now_us))
    assert model.limits.balances["acme", "b:key:total"]["spare"] == 0
    booking = Booking(key="b:key:total", unit="tokens", amount=4)
    row = OutcomeRow(
        offset=1, at_ms=BASE_MS, req="r", deadline_ms=hold["deadline_ms"], bookings=(booking,)
    )
    book = Book(org="acme", partition=0, rows=(row,), now_us=now_us)
    agree(calls.book(SHARD, book), model.book(book))
    assert nonzero(model.limits.balances["acme", "b:key:total"]) == {"settled": 4}


def test_of_what_the_log_has_the_ledger_does_not_say_what_was_written_off(store: Store) -> None:
    """Booked while it ran, then past its lease: its owner finds that in the log (found by chance)."""
    store.flushdb()
    store.hset(META_KEY, mapping={"epoch": 7, "ready": 1, "test_clock": 1})
    model, now_us = LedgerModel(7), BASE_MS * 1000
    of_it: dict[str, Any] = {"org": "acme", "req": "r", "lease_ms": 100}
    again = Readmission(deadline_ms=BASE_MS + 99_000, accepted_ms=BASE_MS)
    owner: dict[str, Any] = {"owner": "d", "fence": 6 * 2**32 + 1, "attempt": 1, "readmit": again}
    attach = Attach(now_us=now_us, **owner, **of_it)
    row = OutcomeRow(offset=1, at_ms=BASE_MS, req="r", deadline_ms=again.deadline_ms)
    book = Book(org="acme", partition=3, rows=(row,), now_us=now_us)
    later_us = now_us + 200_000
    taken = Start(owner="e", now_us=later_us, **of_it)
    late = Attach(now_us=later_us, **owner, **of_it)

    def answer(call: Call[Any], modelled: object) -> object:
        assert call.decode(store.execute_command(*call.command)) == modelled
        return modelled

    answer(calls.attach(SHARD, attach), model.attach(attach, now_us))
    answer(calls.book(SHARD, book), model.book(book))
    assert isinstance(
        answer(calls.start(SHARD, taken), model.start(taken, later_us)), answers.Unknown
    )
    stale = answer(calls.attach(SHARD, late), model.attach(late, later_us))
    assert stale == answers.Stale(written_off=())


def test_a_correction_is_no_copy_that_heard_a_tombstone(store: Store) -> None:
    """A later incarnation lifts it still, and the correction stays booked, in both (found by chance in CI)."""
    store.flushdb()
    store.hset(META_KEY, mapping={"epoch": 1, "ready": 1, "test_clock": 1})
    model, now_us = LedgerModel(1), BASE_MS * 1000
    of_it: dict[str, Any] = {"org": "acme", "req": "r", "now_us": now_us}
    buried = Cancel(deadline_ms=BASE_MS + 9, incarnation_ms=1, **of_it)
    row = OutcomeRow(offset=1, at_ms=BASE_MS, req="r", deadline_ms=BASE_MS, ran=False, ref="1:1")
    corrected = Book(org="acme", partition=3, rows=(row,), now_us=now_us)
    again = Admit(deadline_ms=BASE_MS + 9, accepted_ms=BASE_MS, incarnation_ms=2, **of_it)

    def agree(call: Call[Any], modelled: object) -> None:
        assert call.decode(store.execute_command(*call.command)) == modelled

    agree(calls.cancel(SHARD, buried), model.cancel(buried, now_us))
    agree(calls.book(SHARD, corrected), model.book(corrected))
    agree(calls.admit(SHARD, again), model.admit(again, now_us))
    assert model.attempts["acme", "r"].state == "RESERVED"
    assert stored_state(store, now_us) == modelled_state(model, now_us)
