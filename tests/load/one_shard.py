"""Where one organization ends: requests per second of one shard of the ledger, and what they cost the store.

`python -m tests.load.one_shard [--requests 20000]` starts a store of its own with the ledger's functions and the
configuration of production (every write on disk before its answer), and sends the calls of one organization:
admit, start, finish, and one book for each batch, in batches as the processes make them. Calls are encoded before
the clock runs, so that the sender is not what is measured. One organization is one shard, and a shard is one
store's: its core is the limit.
"""

from __future__ import annotations

import argparse
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import hiredis
import psutil
import redis

from schemas.codec import encode
from schemas.events import Booking
from schemas.ids import uuid7
from schemas.ledger import calls, documents, shard_documents
from schemas.runtime.ledger.script import library
from schemas.usage import UsageRow, hour_of, measures_of
from tests.support.events import attempt, finished
from tests.support.harness.ledger_server import LedgerServer

BATCHES: Final = (1, 8, 32, 128)
ORG: Final = "huge"
SHARD: Final = 0
EPOCH: Final = 1
FIRST_FENCE: Final = EPOCH * 2**32 + 1
UNLIMITED: Final = 10**15
HELD_NANO_USD: Final = 3_000_000
HELD_TOKENS: Final = 2_000
_DEADLINE_MS: Final = 600_000
_READ_BYTES: Final = 1 << 16
_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True)
class Measured:
    """One run: how many requests went through in batches of that size, and what it took."""

    batch: int
    requests: int
    seconds: float
    cpu_s: float
    """Of the store."""

    def line(self) -> str:
        """For people."""
        rate, cpu_ms = self.requests / self.seconds, 1_000 * self.cpu_s / self.requests
        return (
            f"{self.batch:>6}{rate:>14.0f}{cpu_ms:>18.3f}{self.cpu_s / self.seconds:>12.0%}"
            f"{1_000 / cpu_ms:>20.0f}"
        )


def balances(now_ms: int) -> tuple[documents.Balance, ...]:
    """A budget and a quota of the organization, a budget of its key, and a count that is only tracked."""
    day_ms = 86_400_000
    start_ms = now_ms - now_ms % day_ms
    held: tuple[tuple[str, documents.Unit, int, int | None], ...] = (
        ("b:org/nano_usd:total", "nano_usd", HELD_NANO_USD, UNLIMITED),
        ("b:org/tokens:total", "tokens", HELD_TOKENS, UNLIMITED),
        ("b:key/k1/nano_usd:total", "nano_usd", HELD_NANO_USD, UNLIMITED),
        ("b:org/requests:today", "requests", 1, None),
    )
    return tuple(
        documents.Balance(
            key=key,
            id=key,
            unit=unit,
            amount=amount,
            limit=limit,
            start_ms=start_ms,
            end_ms=start_ms + 2 * day_ms,
        )
        for key, unit, amount, limit in held
    )


def admission(request: str, now_ms: int) -> documents.Admit:
    """What the limiter asks of an organization and a key that have limits of each kind."""
    flow = {"burst": 10**9, "rate_milli_per_s": 10**9}
    return documents.Admit(
        org=ORG,
        req=request,
        deadline_ms=now_ms + _DEADLINE_MS,
        accepted_ms=now_ms,
        rates=(
            documents.Rate(key="r:org/requests", id="rps", cost=1, **flow),
            documents.Rate(key="r:key/k1/tokens", id="tpm", cost=HELD_TOKENS, **flow),
        ),
        leases=(documents.Lease(key="c:org", id="concurrency", limit=10**9),),
        balances=balances(now_ms),
        incarnation_ms=now_ms,
        terms="t" * 200,
        info="i" * 200,
    )


def outcome_row(request: str, offset: int, now_ms: int) -> documents.OutcomeRow:
    """What accounting books for it."""
    row = UsageRow.of("k1", None, "m", "b1").encoded()
    usage = documents.UsageLine(hour=hour_of(now_ms), row=row, measures=measures_of(attempt(), 0))
    bookings = tuple(
        documents.Booking(key=held.key, unit=held.unit, amount=held.amount // 2 + 1)
        for held in balances(now_ms)
    )
    return documents.OutcomeRow(
        offset=offset, at_ms=now_ms, req=request, deadline_ms=now_ms + _DEADLINE_MS, ran=True,
        usage=(usage,), bookings=bookings,
    )  # fmt: skip


def batches(size: int, count: int) -> Iterator[list[bytes]]:
    """For each batch of requests its four writes: all admits, all starts, all finishes, one book."""
    now_ms = time.time_ns() // 1_000_000
    ids = [uuid7(now_ms, number.to_bytes(10)) for number in range(count)]
    outcome = encode(finished([attempt()], [Booking(key="b:org", unit="tokens", amount=46)]))
    spent: dict[Any, int | None] = {
        "nano_usd": HELD_NANO_USD // 2 + 1,
        "tokens": HELD_TOKENS // 2 + 1,
    }
    offset = 0
    for start in range(0, count, size):
        some = ids[start : start + size]
        admits = [calls.admit(SHARD, admission(request, now_ms)) for request in some]
        starts = [
            calls.start(SHARD, documents.Start(org=ORG, req=request, owner="d1", lease_ms=10_000))
            for request in some
        ]
        closing = [
            documents.Finish(org=ORG, req=request, fence=FIRST_FENCE, actual=spent)
            for request in some
        ]
        finishes = [calls.finish(SHARD, document, outcome) for document in closing]
        rows = tuple(outcome_row(request, offset + n, now_ms) for n, request in enumerate(some))
        offset += len(some)
        book = calls.book(SHARD, documents.Book(org=ORG, partition=SHARD, rows=rows))
        yield [packed(group) for group in (admits, starts, finishes, [book])]


def packed(group: Sequence[calls.Call[Any]]) -> bytes:
    """The calls as one write."""
    commands: list[Any] = [call.command for call in group]
    return b"".join(map(hiredis.pack_command, commands))


def drive(port: int, writes: Sequence[Sequence[bytes]], size: int) -> None:
    """Send each write and read its answers before the next. Raises ``AssertionError`` on an answer that is none."""
    reader = hiredis.Reader()
    with socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for groups in writes:
            for group, answers in zip(groups, (size, size, size, 1), strict=True):
                connection.sendall(group)
                _take(connection, reader, answers)


def _take(connection: socket.socket, reader: hiredis.Reader, answers: int) -> None:
    taken = 0
    while taken < answers:
        answer = reader.gets()
        if answer is False:
            reader.feed(connection.recv(_READ_BYTES))
            continue
        assert not isinstance(answer, hiredis.ReplyError), answer
        taken += 1


def measure(server: LedgerServer, size: int, count: int) -> Measured:
    """One run on a ledger of its own."""
    with redis.Redis(port=server.port) as store:
        store.flushall()
        store.function_load(library(), replace=True)
        store.execute_command(*calls.init(SHARD, shard_documents.Init(epoch=EPOCH)).command)
    writes = list(batches(size, count - count % size))
    assert server.process is not None
    process = psutil.Process(server.process.pid)
    before, began_s = sum(process.cpu_times()[:2]), time.perf_counter()
    drive(server.port, writes, size)
    seconds = time.perf_counter() - began_s
    cpu_s = sum(process.cpu_times()[:2]) - before
    _check(server, count - count % size)
    return Measured(size, count - count % size, seconds, cpu_s)


def _check(server: LedgerServer, requests: int) -> None:
    """Everything was settled and booked, or it is no measurement."""
    document = documents.TakeSnapshot(org=ORG, balances=("b:org/tokens:total",))
    call = calls.snapshot(SHARD, document)
    with redis.Redis(port=server.port) as store:
        read = call.decode(store.execute_command(*call.command))
    settled = requests * (HELD_TOKENS // 2 + 1)
    balance, total = read.balances["b:org/tokens:total"], read.totals["b:org/tokens:total"]
    assert (balance["settled"], balance["reserved"], total["settled"]) == (settled, 0, settled)


def main() -> int:
    """Measure batch by batch, and show a table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--requests", type=int, default=20_000)
    count = options.parse_args().requests
    server = LedgerServer(Path(tempfile.mkdtemp(prefix="tallygate-one-shard-")) / "data")
    server.start()
    print(
        f"{'batch':>6}{'requests/s':>14}{'store CPU ms/req':>18}{'of a core':>12}{'a core would do':>20}"
    )
    try:
        for size in BATCHES:
            print(measure(server, size, min(count, 2_000 * size)).line(), flush=True)
    finally:
        server.kill()
        server.wipe()
    return 0


if __name__ == "__main__":
    sys.exit(main())
