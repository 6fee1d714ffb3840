"""The functions of the ledger in a store: the newest revision that ever came stays."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis

from schemas.ledger import answers, calls, documents
from schemas.ledger.documents import ListUnbooked
from schemas.ledger.errors import LedgerNotReady
from schemas.ledger.shards import Shards
from schemas.runtime.ledger import script
from schemas.runtime.ledger.client import LedgerClient, ledger_store
from schemas.runtime.ledger.meetings import Meetings
from schemas.runtime.valkey.store import StoreUnavailable
from tests.support.harness.ledger_server import LedgerServer
from tests.support.one_shard import ONE_SHARD, SHARD

_SYNCS_AT_ONCE = "repl-diskless-sync-delay 0\n"


@pytest.fixture
def store(server: LedgerServer) -> Iterator[Any]:
    """The same without functions."""
    with redis.Redis(port=server.port) as client:
        client.flushall()
        client.function_flush()
        yield client


def loaded(store: Any) -> list[str]:
    return [each[1].decode() for each in store.function_list()]


async def connect(server: LedgerServer) -> str:
    """Connects as a process does; says what stands on its readiness page."""
    connection = ledger_store(server.url)
    try:
        await connection.start()
        await LedgerClient(connection, ONE_SHARD).init(SHARD)
        return "ok"
    except StoreUnavailable:
        return connection.trouble
    finally:
        await connection.stop()


async def test_an_older_process_replaces_nothing_and_says_so(
    server: LedgerServer, store: Any
) -> None:
    """It is not ready until it is replaced itself."""
    newer = script.REVISION + 1
    store.function_load(script.library(revision=newer))
    assert "newer" in await connect(server)
    assert loaded(store) == [f"{script.FAMILY}{newer}"]


async def test_a_newer_process_replaces_older_functions(server: LedgerServer, store: Any) -> None:
    """At once: there is no instant without functions."""
    store.function_load(script.library(revision=script.REVISION - 1))
    assert await connect(server) == "ok"
    assert loaded(store) == [f"{script.FAMILY}{script.REVISION}"]


async def test_processes_of_two_revisions_that_start_together_leave_the_newer(
    server: LedgerServer, store: Any
) -> None:
    """Whichever comes first."""
    newer = script.library(revision=script.REVISION + 1)
    for _ in range(20):
        store.function_flush()
        await asyncio.gather(
            connect(server), asyncio.to_thread(load_over, server, newer), connect(server)
        )
        assert loaded(store) == [f"{script.FAMILY}{script.REVISION + 1}"]


def load_over(server: LedgerServer, source: str) -> None:
    """What a process of the newer revision does, with the library of the tests."""
    with redis.Redis(port=server.port) as client:
        try:
            client.function_load(source, replace=True)
        except redis.ResponseError:
            with client.pipeline(transaction=True) as both:
                both.execute_command("FUNCTION", "DELETE", f"{script.FAMILY}{script.REVISION}")
                both.execute_command("FUNCTION", "LOAD", source)
                both.execute()


async def test_a_reconnection_loads_the_same_revision_again(
    server: LedgerServer, store: Any
) -> None:
    """A process that comes back finds its own functions and may replace them."""
    assert await connect(server) == "ok"
    assert await connect(server) == "ok"
    assert loaded(store) == [f"{script.FAMILY}{script.REVISION}"]


async def test_a_restarted_server_decides_nothing_until_its_shards_are_rebuilt(
    server: LedgerServer, store: Any
) -> None:
    """Whoever connects first closes them, also where nothing is missing; an unknown shard stays unknown."""
    meetings = Meetings()
    connection = ledger_store(server.url, meetings=meetings)
    ledger = LedgerClient(connection, meetings=meetings)
    await connection.start()
    await ledger.learn(Shards(2))
    await ledger.init(0)
    opened = await ledger.meet(0)
    server.kill()
    server.start()
    async with asyncio.timeout(10):
        while connection.connections < 2:  # noqa: ASYNC110  # connections have no event
            await asyncio.sleep(0.02)
    closed, unknown = await ledger.meet(0), await ledger.meet(1)
    with pytest.raises(LedgerNotReady):
        await ledger.unbooked(0, ListUnbooked(until_ms=0))
    await connection.stop()

    assert opened == answers.Meta(epoch=1, ready=True)
    assert closed == answers.Meta(epoch=1, ready=False, why="restarted")
    assert unknown == answers.Meta(epoch=0, ready=False)


async def test_a_primary_that_was_a_replica_meanwhile_decides_nothing_until_it_is_rebuilt(
    tmp_path: Path,
) -> None:
    """Its process is the same, its connections were never cut, and what it took over lacks a write of its own."""
    first, second = (LedgerServer(tmp_path / n, more_settings=_SYNCS_AT_ONCE) for n in "ab")
    first.start()
    second.start()
    meetings = Meetings()
    connection = ledger_store(first.url, meetings=meetings)
    ledger = LedgerClient(connection, meetings=meetings)
    try:
        await connection.start()
        await ledger.learn(Shards(1))
        await ledger.init(0)
        await asyncio.to_thread(_follow, second, first)
        opened = await ledger.meet(0)
        await connection.call("SET", "written", "last")
        await asyncio.to_thread(_follow, first, second)
        closed, written = await ledger.meet(0), await connection.call("GET", "written")
    finally:
        await connection.stop()
        first.kill()
        second.kill()

    assert opened == answers.Meta(epoch=1, ready=True)
    assert (written, connection.connections) == (None, 1)
    assert closed == answers.Meta(epoch=1, ready=False, why="restarted")


def _follow(one: LedgerServer, other: LedgerServer) -> None:
    """Take over the data of another one, and be a primary then."""
    with redis.Redis(port=one.port) as client:
        client.replicaof("127.0.0.1", other.port)
        while client.info("replication")["master_link_status"] != "up":
            time.sleep(0.02)
        client.replicaof("NO", "ONE")


def spelled_out(value: Any) -> Any:
    """A document with everything that it leaves out, as processes of revision 12 send it."""
    if isinstance(value, msgspec.Struct):
        return {name: spelled_out(getattr(value, name)) for name in type(value).__struct_fields__}
    return [spelled_out(each) for each in value] if isinstance(value, tuple) else value


def one_life(org: str, now_ms: int) -> Iterator[documents.Document]:
    """A request that is admitted, started, renewed, finished and booked."""
    balance = documents.Balance(key="b:org", unit="tokens", amount=50, limit=100, start_ms=0)
    rate = documents.Rate(key="r:org", cost=1, rate_milli_per_s=1_000, id="org:rate", burst=5)
    yield documents.Admit(
        org=org,
        req="r1",
        deadline_ms=now_ms + 60_000,
        accepted_ms=now_ms,
        rates=(rate,),
        balances=(balance,),
    )
    yield documents.Start(org=org, req="r1", owner="d", lease_ms=9_000, second_attempt=(balance,))
    yield documents.Renew(org=org, req="r1", fence=2**32 + 1, lease_ms=9_000)
    yield documents.Finish(org=org, req="r1", fence=2**32 + 1, actual={"tokens": 60})
    booking = documents.Booking(key="b:org", unit="tokens", amount=60)
    usage = documents.UsageLine(hour="2026-11-26T16", row="k\tu\tm\tb", measures={"requests": 1})
    row = documents.OutcomeRow(
        offset=1,
        at_ms=now_ms,
        req="r1",
        deadline_ms=now_ms,
        ran=True,
        usage=(usage,),
        bookings=(booking,),
    )
    again = msgspec.structs.replace(row, offset=2, req="r2")
    yield documents.Book(org=org, partition=SHARD, rows=(row, again))


def command_of(document: documents.Document) -> list[Any]:
    """The command of one of these documents."""
    call: Any
    match document:
        case documents.Finish():
            call = calls.finish(SHARD, document, b"outcome")
        case documents.Book():
            call = calls.book(SHARD, document)
        case _:
            make: Any = {"Admit": calls.admit, "Start": calls.start, "Renew": calls.renew}
            call = make[type(document).__name__](SHARD, document)
    return [*call.command, 0]


async def test_what_a_document_leaves_out_is_what_it_would_have_named(
    server: LedgerServer, store: Any
) -> None:
    """Processes of the version before name every default while both run, and hear and change the same."""
    assert await connect(server) == "ok"
    now_ms, told = int(time.time() * 1_000), []
    for document, named in zip(one_life("one", now_ms), one_life("two", now_ms), strict=True):
        brief, whole = command_of(document), command_of(named)
        place = next(i for i, part in enumerate(whole) if isinstance(part, bytes))
        whole[place] = msgspec.json.encode(spelled_out(named))
        assert len(whole[place]) > len(brief[place])
        told.append(store.execute_command(*brief))
        assert told[-1] == store.execute_command(*whole)

    assert [json.loads(answer)["v"] for answer in told] == [
        "ADMITTED",
        "FENCE",
        "OK",
        "OK",
        "BOOKED",
    ]
    keys = [key for key in store.scan_iter() if b"|one|" in key]
    assert len(keys) == 7
    for key in keys:
        other = key.replace(b"|one|", b"|two|")
        if store.type(key) == b"hash":
            assert store.hgetall(key) == store.hgetall(other), key
