"""Who connects to a store meets its shards first: another process than before closes them."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from schemas.ledger import answers
from schemas.ledger.documents import Look
from schemas.ledger.errors import LedgerFault, LedgerNotReady
from schemas.ledger.shards import Shards
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.ledger.meetings import Meetings
from schemas.runtime.valkey.store import NodeView, StoreError, StoreUnavailable
from tests.support.model_store import ModelStore

LOOK = Look(org="acme", req="r")


def _node(store: ModelStore, *, serves: bool = True) -> NodeView:
    def send(*command: Any) -> asyncio.Future[Any]:
        return asyncio.ensure_future(store.call(*command))

    return NodeView(send, lambda _: serves)


async def test_the_process_that_was_sure_of_a_shard_finds_it_open_again() -> None:
    """However often it is connected to."""
    store, meetings = ModelStore(), Meetings(Shards(1))
    for _ in range(3):
        await meetings.greet(_node(store))

    assert await store.client().look(LOOK) == answers.Look(state="")


async def test_another_process_closes_the_shard_before_it_decides() -> None:
    """It may lack what was decided last, and nothing in it says so."""
    store, meetings = ModelStore(), Meetings(Shards(1))
    await meetings.greet(_node(store))
    store.run_id = "second"
    await meetings.greet(_node(store))

    with pytest.raises(LedgerNotReady):
        await store.client().look(LOOK)


async def test_a_store_behind_the_epoch_that_was_announced_decides_nothing() -> None:
    """Nobody cut the connection to it, and another one has the shard by now; one that is ahead is believed."""
    store, epochs = ModelStore(), {0: 1}
    ledger = LedgerClient(store, Shards(1), epochs=lambda: epochs)  # type: ignore[arg-type]
    found = await ledger.look(LOOK)
    epochs[0] = 2
    with pytest.raises(LedgerNotReady, match="earlier life"):
        await ledger.look(LOOK)
    (told,) = await ledger.look_many([LOOK])
    store.model.life.epoch = 3

    assert found == await ledger.look(LOOK) == answers.Look(state="")
    assert isinstance(told, LedgerNotReady)


async def test_a_server_meets_only_the_shards_that_it_has() -> None:
    """A replica of theirs would refuse it, and is asked when it takes them over."""
    store, meetings = ModelStore(), Meetings(Shards(4))
    await meetings.greet(_node(store, serves=False))
    await Meetings().greet(_node(store))

    assert store.called == []


async def test_shards_are_met_once_it_is_known_how_many_there_are() -> None:
    """Before anything is asked of them, on the connection that stands by then."""
    store, meetings = ModelStore(), Meetings()
    store.model.life.meet("first")
    store.run_id = "second"
    ledger = LedgerClient(store, meetings=meetings)  # type: ignore[arg-type]
    await ledger.learn(Shards(1))

    assert meetings.shards == ledger.known == Shards(1)
    with pytest.raises(LedgerNotReady):
        await ledger.look(LOOK)


async def test_a_store_that_is_away_meets_its_shards_when_it_is_back() -> None:
    """Not knowing them would keep a process from serving others."""
    store, meetings = ModelStore(is_away=True), Meetings()
    ledger = LedgerClient(store, meetings=meetings)  # type: ignore[arg-type]
    await ledger.learn(Shards(1))

    assert meetings.shards == ledger.known == Shards(1)


async def test_a_store_that_cannot_meet_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no ledger of ours."""

    async def refuse(self: ModelStore, *command: Any) -> Any:
        raise StoreError("ERR no such thing")

    monkeypatch.setattr(ModelStore, "call", refuse)
    ledger = LedgerClient(ModelStore(), meetings=Meetings())  # type: ignore[arg-type]
    with pytest.raises(LedgerFault):
        await ledger.learn(Shards(1))

    assert ledger.known is None


async def test_a_server_that_refuses_all_meetings_leaves_no_reply_unheard() -> None:
    """The first refusal is told; the others would be logged as defects of nobody."""
    unheard: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, about: unheard.append(about))

    def send(*_: Any) -> asyncio.Future[Any]:
        reply: asyncio.Future[Any] = loop.create_future()
        loop.call_soon(reply.set_exception, StoreUnavailable("CLUSTERDOWN"))
        return reply

    with pytest.raises(StoreUnavailable):
        await Meetings(Shards(4)).greet(NodeView(send, lambda _: True))
    await asyncio.sleep(0)
    gc.collect()

    assert unheard == []
