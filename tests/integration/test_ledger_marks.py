"""Marks of booked requests on a real Valkey, at full length of time: they leave by the log's clock alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import redis
from msgspec.structs import replace

from schemas.ledger import answers, calls, keys
from schemas.ledger.calls import Call
from schemas.ledger.documents import (
    Admit,
    Balance,
    Book,
    Booking,
    Claim,
    Finish,
    OutcomeRow,
    Start,
)
from schemas.runtime.ledger.script import library
from tests.support.harness.ledger_server import LedgerServer
from tests.support.one_shard import META_KEY, SHARD

A = TypeVar("A")

T0_MS = 4_000_000_000_000
MINUTE_MS = 60_000
MONTH = "b:org/nano_usd:month"
COST = 8_000
REQUESTS = [f"r{n}" for n in range(300)]


class Ledger:
    """One organization's ledger with a clock of its own."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.now_ms = T0_MS
        store.flushdb()
        store.hset(META_KEY, mapping={"epoch": 1, "ready": 1, "test_clock": 1})

    def call(self, call: Call[A]) -> A:
        return call.decode(self.store.execute_command(*call.command))

    def run(self, req: str) -> None:
        """Admits, starts and finishes a request."""
        now_us = self.now_ms * 1_000
        budget = Balance(key=MONTH, unit="nano_usd", amount=COST, start_ms=0)
        admit = Admit(
            org="acme",
            req=req,
            deadline_ms=self.now_ms + MINUTE_MS,
            accepted_ms=self.now_ms,
            balances=(budget,),
            now_us=now_us,
        )
        start = Start(org="acme", req=req, owner="d", lease_ms=10_000, now_us=now_us)
        assert isinstance(self.call(calls.admit(SHARD, admit)), answers.Admitted)
        claimed = self.call(calls.start(SHARD, start))
        assert isinstance(claimed, answers.Fence)
        actual: dict[Any, int | None] = {"nano_usd": COST}
        finish = Finish(org="acme", req=req, fence=claimed.fence, actual=actual, now_us=now_us)
        assert self.call(calls.finish(SHARD, finish, b"outcome")) == answers.Ok()

    def book(self, *rows: OutcomeRow) -> tuple[str, ...]:
        now_us = self.now_ms * 1_000
        return self.call(
            calls.book(SHARD, Book(org="acme", partition=3, rows=rows, now_us=now_us))
        ).rows

    def sums(self) -> tuple[int, int]:
        """What is settled, and what the log booked."""
        names = (MONTH, keys.totals_suffix(MONTH))
        stored = (self.store.hget(keys.of_org(SHARD, "acme", name), "settled") for name in names)
        settled, total = (int(amount or 0) for amount in stored)
        return settled, total


def _row(offset: int, req: str, at_ms: int) -> OutcomeRow:
    return OutcomeRow(
        offset=offset,
        at_ms=at_ms,
        req=req,
        deadline_ms=T0_MS + MINUTE_MS,
        ran=True,
        bookings=(Booking(key=MONTH, unit="nano_usd", amount=COST),),
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A ledger store with the functions loaded."""
    server = LedgerServer(Path(tmp_path_factory.mktemp("marks")) / "data")
    server.start()
    with redis.Redis(port=server.port) as client:
        client.function_load(library(), replace=True)
        yield client
    server.kill()


@pytest.fixture
def ledger(store: Any) -> Ledger:
    """An empty ledger."""
    return Ledger(store)


@pytest.mark.parametrize("away_minutes", [20, 71 * 60])
def test_copies_that_waited_while_accounting_was_away_are_not_booked_again(
    ledger: Ledger, away_minutes: int
) -> None:
    """300 requests of 8 000 nano-USD stay 2.4 million, on both sums."""
    for req in REQUESTS:
        ledger.run(req)
    first = [_row(n, req, T0_MS + 100) for n, req in enumerate(REQUESTS)]
    assert set(ledger.book(*first)) == {"BOOKED"}
    ledger.now_ms += away_minutes * MINUTE_MS
    copies = [_row(300 + n, req, T0_MS + 200) for n, req in enumerate(REQUESTS)]

    assert set(ledger.book(*copies)) == {"DUPLICATE"}
    assert ledger.sums() == (2_400_000, 2_400_000)


def test_what_is_booked_late_is_booked_once_and_balances_agree(ledger: Ledger) -> None:
    """Accounting was away before the first of them already; copies stand between."""
    for req in REQUESTS:
        ledger.run(req)
    ledger.now_ms += 20 * MINUTE_MS
    for start in range(0, 300, 100):
        rows = [_row(2 * n, REQUESTS[n], T0_MS + 100) for n in range(start, start + 100)]
        copies = [replace(row, offset=row.offset + 1) for row in rows]
        mixed = sorted([*rows, *copies], key=lambda row: row.offset)
        assert ledger.book(*mixed) == ("BOOKED", "DUPLICATE") * 100
    assert ledger.sums() == (2_400_000, 2_400_000)
    assert ledger.store.zcard(keys.FINISHED) == 0


def test_what_the_log_left_behind_is_forgotten_and_then_only_the_log_decides(
    ledger: Ledger,
) -> None:
    """Memory is bounded by the traffic of the window; a clock that jumps costs a look-up and no money."""
    for req in REQUESTS:
        ledger.run(req)
    ledger.book(*(_row(n, req, T0_MS + 100) for n, req in enumerate(REQUESTS)))
    later_ms = T0_MS + 17 * MINUTE_MS
    for n in range(20):
        row = replace(_row(1_000 + n, f"later{n}", later_ms), deadline_ms=later_ms + MINUTE_MS)
        assert ledger.book(row) == ("BOOKED",)

    assert not any(ledger.store.exists(keys.attempt(SHARD, "acme", req)) for req in REQUESTS)
    before = ledger.sums()
    copy = _row(2_000, "r0", T0_MS + 200)
    assert ledger.book(copy) == ()
    assert ledger.book(replace(copy, is_first=False)) == ("DUPLICATE",)
    assert ledger.sums() == before


def test_a_key_of_a_request_that_ran_by_the_log_alone_is_never_freed(ledger: Ledger) -> None:
    """The same key executes once."""
    claim = Claim(
        org="acme",
        req="r1",
        key_hash="k",
        fingerprint="f",
        produce_by_ms=T0_MS,
        deadline_ms=T0_MS + MINUTE_MS,
        limit=10,
        now_us=T0_MS * 1_000,
    )
    assert isinstance(ledger.call(calls.claim(SHARD, claim)), answers.Claimed)
    ledger.book(_row(1, "r1", T0_MS + 100))

    held = ledger.call(calls.claim(SHARD, replace(claim, req="r2")))
    assert isinstance(held, answers.Held)
    assert held.req == "r1"
