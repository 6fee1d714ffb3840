"""The ledger client against a store that lies: each call answers for itself alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from schemas.ledger import answers
from schemas.ledger.documents import Admit, Cancel
from schemas.ledger.errors import LedgerFault, LedgerFull, LedgerNotReady, LedgerUnavailable
from schemas.runtime.ledger.client import LedgerClient, answered, ledger_store
from schemas.runtime.ledger.script import library
from schemas.runtime.valkey.opening import open_store
from schemas.runtime.valkey.store import StoreUnavailable
from tests.support.one_shard import ONE_SHARD
from tests.unit.runtime.resp_server import Answer, resp_server


def bulk(text: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(text), text)


OK = bulk(b'{"v":"OK"}')


@asynccontextmanager
async def ledger_on(answer: Answer) -> AsyncIterator[LedgerClient]:
    async with resp_server(answer) as server:
        store = open_store(server.url)
        await store.start()
        try:
            yield LedgerClient(store, ONE_SHARD)
        finally:
            await store.stop()


def request(req: str) -> Admit:
    return Admit(org="acme", req=req, deadline_ms=1, accepted_ms=0)


async def test_a_call_that_fails_leaves_its_neighbours_alone() -> None:
    """Of one group, each call gets its answer, its outage or its defect."""
    replies = {
        b"a": bulk(b'{"v":"ADMITTED"}'),
        b"b": b"-OOM command not allowed\r\n",
        b"c": b"-ERR wrong\r\n",
        b"d": bulk(b'{"v":"NOT_READY"}'),
        b"e": bulk(b"{"),
    }

    def answer(command: list[bytes]) -> bytes:
        return next(r for name, r in replies.items() if b'"req":"%b"' % name in command[-2])

    async with ledger_on(answer) as ledger:
        found = await ledger.admit_many([request(name) for name in "abcde"])

    assert [type(each) for each in found] == [
        answers.Admitted,
        LedgerFull,
        LedgerFault,
        LedgerNotReady,
        LedgerFault,
    ]


async def test_the_first_failure_of_a_group_stands_for_all_who_need_every_answer() -> None:
    """Whoever cannot go on with a part of the answers says so with `answered`."""
    failure = LedgerUnavailable("away")
    with pytest.raises(LedgerUnavailable, match="away"):
        answered([answers.Ok(), failure, LedgerFault("later")])
    assert answered([answers.Ok()]) == [answers.Ok()]


@pytest.mark.parametrize(
    "reply",
    [
        b":1\r\n",
        b"$-1\r\n",
        b"*-1\r\n",
        b"*0\r\n",
        bulk(b""),
        bulk(b"null"),
        bulk(b'{"v":"NEW"}'),
        bulk(b"\xff"),
        b"*1\r\n" + OK,
        b"*2\r\n" + OK + bulk(b"x"),
        b"*2\r\n" + OK + b":7\r\n",
        b"*3\r\n" + OK + OK + OK,
    ],
)
async def test_an_answer_that_is_none_is_a_defect_of_its_call(reply: bytes) -> None:
    """Whatever type or text the store sends."""
    async with ledger_on(lambda _: reply) as ledger:
        with pytest.raises(LedgerFault):
            await ledger.cancel(Cancel(org="acme", req="r", deadline_ms=1))


@pytest.mark.parametrize(
    "told",
    [
        "READONLY You can't write against a read only replica.",
        "MISCONF Errors writing to the AOF file",
        "ERR Function not found",
        "ERR Script attempted to access a non local key in a cluster node script: tg1_admit",
    ],
)
async def test_a_store_that_cannot_now_is_away_and_no_defect(told: str) -> None:
    """Whoever asked asks again; nobody is told that the ledger is wrong."""
    async with ledger_on(lambda _: f"-{told}\r\n".encode()) as ledger:
        with pytest.raises(LedgerUnavailable):
            await ledger.cancel(Cancel(org="acme", req="r", deadline_ms=1))


@pytest.mark.parametrize(("loaded", "is_usable"), [(library(), True), ("another", False)])
async def test_a_full_store_will_do_as_long_as_it_has_our_functions(
    loaded: str, is_usable: bool
) -> None:
    """It loads nothing, and yet what runs has to be closed on it after a reconnection."""

    def answer(command: list[bytes]) -> bytes:
        if command[1] == b"LOAD":
            return b"-OOM command not allowed\r\n"
        named = bulk(b"library_name") + bulk(b"tallygate_ledger_1")
        return b"*1\r\n*4\r\n" + named + bulk(b"library_code") + bulk(loaded.encode())

    async with resp_server(answer) as server:
        store = ledger_store(server.url)
        if is_usable:
            await store.start()
        else:
            with pytest.raises(StoreUnavailable, match="OOM"):
                await store.start()
        assert store.connected == is_usable
        await store.stop()
