"""Who owns a partition rebuilds its shard when it has to be, once, and gives way to a later owner."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from accounting.booking import Place
from accounting.rebuild import completion
from accounting.rebuild import owner as subject
from accounting.rebuild.build import Overtaken, Parts
from accounting.rebuild.folders import Folders
from accounting.rebuild.old_layout import OldLayout
from accounting.rebuild.owner import ShardOwner
from schemas.config_state import Snapshot
from schemas.events import TableSnapshot
from schemas.failures import Transient
from schemas.ledger import answers, keys
from schemas.ledger.calls import Call
from schemas.ledger.errors import LedgerFault
from schemas.ledger.rebuild_calls import Salvaged, Unlinked
from schemas.ledger.shards import Shards
from schemas.outgoing import Outgoing, outcome_record, table_record
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.telemetry import Metrics
from schemas.times import FULL
from schemas.topics import DISPATCH, USAGE_TABLES
from tests.support.events import finished
from tests.support.log_in_memory import LogInMemory

_COMPLETES_AFTER_S = 0.4
"""What is looked at before that is open and not whole."""
_WHOLE = {"epoch": "1", "ready": "1", "layout": "2", "complete": "1"}


class _Ledger:
    """Answers as a shard that nobody else builds."""

    def __init__(self) -> None:
        self.shards = Shards(2)
        self.log = LogInMemory()
        self.called: list[tuple[str, str]] = []
        self.met: list[int] = []
        self.stale_at: str | None = None
        self.is_of_before = False
        """Whether a version of another layout left its keys in the store."""
        self.fails: dict[tuple[str, str], Exception] = {}
        """By function and meta, what a call comes to."""
        self.metas: dict[str, dict[str, str]] = {
            keys.of_shard(n, keys.META): dict(_WHOLE) for n in range(2)
        }

    async def meet(self, shard: int) -> answers.Meta:
        self.met.append(shard)
        return answers.Meta(epoch=1, ready=True)

    async def run(self, call: Call[Any]) -> Any:
        function, meta = str(call.command[1]), str(call.command[3])
        self.called.append((function, meta))
        if function == self.stale_at:
            return answers.Stale()
        if (function, meta) in self.fails:
            raise self.fails[function, meta]
        if function == "tg1_rebuild_restored" and b'"all"' in bytes(call.command[-1]):  # type: ignore[arg-type]
            self.metas[meta] = {**_WHOLE, "epoch": "9"}
        match function:
            case "tg1_rebuild_salvage":
                return Salvaged()
            case "tg1_rebuild_unlink":
                return Unlinked(cursor="0", count=0)
        return answers.Ok()

    async def call(self, *command: str) -> Any:
        match command[0]:
            case "EXISTS":
                return int(self.is_of_before)
            case "ZRANGE":
                return []
            case "SCAN":
                return [b"0", []]
        if command in self.fails:
            raise self.fails[command[0], command[1]]
        return [part.encode() for pair in self.metas[command[1]].items() for part in pair]


class _Producer:
    def __init__(self) -> None:
        self.produced: list[Outgoing] = []

    async def deliver(self, records: Sequence[Outgoing], deadline_s: float) -> None:
        self.produced += records


class _Config:
    snapshot = Snapshot(ledger_epochs={1: 6})


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> _Ledger:
    """Two shards, both whole, and an empty log."""
    log = LogInMemory()

    @asynccontextmanager
    async def in_memory(brokers: str) -> AsyncIterator[LogInMemory]:
        yield log

    monkeypatch.setattr(subject, "open_log", in_memory)

    async def complete(*arguments: Any) -> None:
        await asyncio.sleep(_COMPLETES_AFTER_S)
        await completion.complete(*arguments)

    monkeypatch.setattr(subject, "complete", complete)
    made = _Ledger()
    made.log = log
    return made


def _owner(ledger: Any, owned: frozenset[int], config: Any = _Config) -> ShardOwner:
    producer: Any = _Producer()
    old = OldLayout(ledger, ledger)
    parts = Parts(ledger, producer, Folders(None), FULL, old)  # type: ignore[arg-type]
    clock = Clock()
    return ShardOwner(parts, "", ledger, config, lambda: owned, clock, Metrics(), {}, _same_log)


async def _same_log(shards: Collection[int]) -> None:
    """All of them are of the log that is here."""


async def test_a_whole_shard_is_left_alone(ledger: _Ledger) -> None:
    """Its store is met each time, for that may have been a replica meanwhile; then its meta is read."""
    owner = _owner(ledger, frozenset({0}))
    await owner.look()
    assert not ledger.called
    met = len(ledger.met)
    await owner.look()
    assert 0 in ledger.met[met:]


async def test_an_older_epoch_is_rebuilt_under_a_higher_one(ledger: _Ledger) -> None:
    """The epoch stands in the log first; only the owned shard is touched, and it is complete at the end."""
    owner = _owner(ledger, frozenset({1}))
    await owner.look()
    (build,) = owner.builds.values()
    assert build.epoch == 7
    assert build.cause == "epoch"
    assert "ledger-1" in owner.components()
    (announced,) = owner.parts.producer.produced  # type: ignore[attr-defined]
    assert (announced.topic, announced.key) == ("config.entries.v1", b"ledger_shard/1")
    await asyncio.gather(*owner.completing.values())
    functions = [function for function, _ in ledger.called]
    assert functions[0] == "tg1_rebuild_begin"
    assert functions.index("tg1_rebuild_open") < functions.index("tg1_rebuild_restored")
    assert {meta for _, meta in ledger.called} == {"{1}|meta"}
    assert not owner.components()


async def test_folding_processes_stay_while_a_shard_is_made(
    ledger: _Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are wanted again for its usage hours, and by nobody after that."""
    ended: list[int] = []

    async def end(_: Folders) -> None:
        ended.append(len(owner.builds))

    monkeypatch.setattr(Folders, "end", end)
    owner = _owner(ledger, frozenset({1}))
    await owner.look()
    await owner.look()
    assert ended == [0]
    await asyncio.gather(*owner.completing.values())
    await owner.look()
    assert ended == [0, 0]
    running = asyncio.create_task(owner.run())
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait({running})
    assert ended == [0, 0, 0]


async def test_a_shard_that_is_empty_begins_above_the_life_that_nobody_announced(
    ledger: _Ledger,
) -> None:
    """Or the fences of its second life would be those of its first."""
    ledger.metas["{0}|meta"] = {}
    owner = _owner(ledger, frozenset({0}))
    await owner.look()

    assert owner.builds[0].epoch == 2


async def test_a_shard_of_another_log_is_not_made_again_from_this_one(ledger: _Ledger) -> None:
    """Its store was restarted when the log was made anew: all budgets would begin anew."""
    meta = ledger.metas["{0}|meta"]
    meta |= {"ready": "0", "why": "restarted"}

    async def of_another(shards: Collection[int]) -> None:
        assert set(shards) == {0}
        meta["why"] = "another log"

    owner = _owner(ledger, frozenset({0}))
    owner.compare = of_another
    await owner.look()

    assert not owner.builds
    assert not ledger.called


async def test_a_store_that_a_version_of_another_layout_wrote_is_no_lost_one(
    ledger: _Ledger,
) -> None:
    """Operators read so, and its keys say what the log lacks."""
    ledger.metas["{0}|meta"] = {}
    ledger.is_of_before = True
    owner = _owner(ledger, frozenset({0}))
    await owner.look()

    assert owner.builds[0].cause == "layout"


@pytest.mark.parametrize("step", ["tg1_rebuild_begin", "tg1_rebuild_unlink", "tg1_rebuild_open"])
async def test_whoever_is_overtaken_stops_and_forgets(ledger: _Ledger, step: str) -> None:
    """So that it looks at the shard anew, should it still be its own."""
    ledger.stale_at = step
    owner = _owner(ledger, frozenset({1}))
    with pytest.raises(Overtaken):
        await owner.look()
    assert not owner.builds


_SNAPSHOT = table_record(
    TableSnapshot(
        org="acme",
        table="balances",
        partition=0,
        offset=-1,
        values={"b:org/tokens:total": 1},
        taken_at_ms=0,
    )
)
_OF_A_NEWER_VERSION = b"\0\0\0\xff\xff"


@pytest.mark.parametrize(
    ("step", "error"),
    [
        ("tg1_rebuild_begin", LedgerFault("refused")),
        ("tg1_rebuild_salvage", ValueError("a defect")),
        ("tg1_restore_balances", LedgerFault("refused")),
        ("tg1_rebuild_open", Transient("away")),
    ],
)
async def test_what_befalls_a_shard_costs_no_other(
    ledger: _Ledger, step: str, error: Exception
) -> None:
    """They are rebuilt together; the one that was refused is looked at again."""
    ledger.log.append(_SNAPSHOT, 0, 1)
    ledger.fails[step, "{0}|meta"] = error
    owner = await _both_lost(ledger)
    assert {meta for function, meta in ledger.called if function == "tg1_rebuild_open"} >= {
        "{1}|meta"
    }
    assert set(owner.builds) == {1}
    assert owner.builds[1].is_open
    ledger.fails.clear()
    ledger.metas["{1}|meta"] = {**_WHOLE, "epoch": "7"}
    await owner.look()
    assert owner.builds[0].is_open


async def _both_lost(ledger: _Ledger) -> ShardOwner:
    owner = _owner(ledger, frozenset({0, 1}))
    for meta in ledger.metas.values():
        meta["ready"] = "0"
    await owner.look()
    return owner


@pytest.mark.parametrize("topic", [USAGE_TABLES, DISPATCH])
async def test_a_record_that_only_a_newer_version_reads_keeps_its_own_shard_closed(
    ledger: _Ledger, topic: str
) -> None:
    """A snapshot, or an admission that says of which shard it is."""
    headers = [("shard", b"0"), ("request_id", b"r")]
    record = Outgoing(topic, b"acme|b:org/tokens:total", _OF_A_NEWER_VERSION, headers)
    ledger.log.append(record, 0, Clock().now_ms())
    owner = await _both_lost(ledger)
    assert set(owner.builds) == {1}


async def test_a_shard_whose_store_is_away_keeps_no_other_waiting(ledger: _Ledger) -> None:
    """Of a cluster that lost a primary the other ones are whole soon."""
    ledger.fails["HGETALL", "{0}|meta"] = Transient("away")
    owner = await _both_lost(ledger)
    assert set(owner.builds) == {1}


async def test_what_was_folded_counts_as_booked(ledger: _Ledger) -> None:
    """So that the checkpoint follows it also where no other outcome comes."""
    ledger.log.append(outcome_record(finished([], []), "dispatcher"), 1, 5_000)
    owner = await _both_lost(ledger)
    assert owner.booked == {1: Place(0, 5_000)}


async def test_a_shard_that_went_to_another_owner_is_not_completed_here(ledger: _Ledger) -> None:
    """While the group is in motion nothing is given up."""
    owned = frozenset({0, 1})
    owner = _owner(ledger, owned)
    ledger.metas["{0}|meta"]["ready"] = "0"
    await owner.look()
    assert set(owner.builds) == {0, 1}
    owner.owned = frozenset
    await owner.look()
    assert set(owner.builds) == {0, 1}
    owner.owned = lambda: frozenset({0})
    ledger.metas["{0}|meta"] = {**_WHOLE, "building": owner.builds[0].building}
    await owner.look()
    assert set(owner.builds) == {0}


@pytest.mark.parametrize("error", [Transient(), ValueError()])
async def test_completion_is_tried_again(
    ledger: _Ledger, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """A broker that is away does not close a shard again, and neither does a defect."""
    monkeypatch.setattr(subject, "_AGAIN_S", 0.0)
    monkeypatch.setattr(subject, "_DEFECT_S", 0.0)
    tries = []

    async def complete(*_: object) -> None:
        tries.append(1)
        if len(tries) == 1:
            raise error

    monkeypatch.setattr(subject, "complete", complete)
    owner = _owner(ledger, frozenset({1}))
    await owner.look()
    await asyncio.gather(*owner.completing.values())
    assert len(tries) == 2
