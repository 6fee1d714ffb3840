"""A shard that is not the fold of the log here is closed, named and told once."""

from __future__ import annotations

from collections.abc import Collection
from types import SimpleNamespace
from typing import Any, cast

from accounting.identity import Facts, ShardIdentity
from accounting.positions import Positions
from schemas.ledger.answers import Look as Known
from schemas.ledger.documents import Book, Look, OutcomeRow
from schemas.runtime.process.telemetry import Metrics
from tests.support.model_store import ModelStore
from tests.support.one_shard import SHARD


class Scene:
    """One shard with five outcomes booked, and a log."""

    def __init__(self) -> None:
        self.store = ModelStore()
        self.ledger = self.store.client()
        self.cluster_id, self.end, self.committed = "c", 5, 5
        self.snapshot = SimpleNamespace(birth_id="b")
        self.metrics = Metrics()
        self.identity = ShardIdentity(
            ledger=self.ledger,
            facts=self.facts,
            config=cast("Any", SimpleNamespace(snapshot=self.snapshot)),
            owned=lambda: frozenset({SHARD}),
            metrics=self.metrics,
        )

    async def facts(self, partitions: Collection[int]) -> Facts:
        return Facts(
            self.cluster_id, {n: Positions(self.committed, 0, self.end) for n in partitions}
        )

    async def compared(self) -> dict[int, str]:
        await self.identity.compare({SHARD})
        return self.identity.foreign


async def _scene() -> Scene:
    scene = Scene()
    row = OutcomeRow(offset=4, at_ms=1, req="r", deadline_ms=1)
    await scene.ledger.book(Book(org="acme", partition=SHARD, rows=(row,)))
    assert await scene.compared() == {}
    return scene


async def test_the_log_that_it_is_the_fold_of_leaves_it_open() -> None:
    """However far it has grown."""
    scene = await _scene()
    scene.end = 9

    assert await scene.compared() == {}
    assert isinstance(await scene.ledger.look(Look(org="acme", req="r")), Known)
    assert scene.identity.components() == {}


async def test_each_sign_of_another_log_closes_it_and_is_named() -> None:
    """Another cluster, a log that was made anew, one that lost what is booked."""
    for change, why in (
        ({"cluster_id": "other"}, "another log"),
        ({"snapshot": SimpleNamespace(birth_id="anew")}, "another log"),
        ({"end": 4}, "log lost its end"),
    ):
        scene = await _scene()
        vars(scene).update(change)
        scene.identity.config = cast("Any", SimpleNamespace(snapshot=scene.snapshot))

        assert await scene.compared() == {SHARD: why}
        assert not scene.store.model.life.ready
        assert scene.identity.components() == {"ledger-0": f"degraded: {why}"}


async def test_a_shard_without_what_accounting_has_booked_is_closed_and_made_again() -> None:
    """A store that lost its end and passes for the same: nothing has to be decided by a person."""
    scene = await _scene()
    scene.committed, scene.end = 6, 7

    assert await scene.compared() == {}
    assert (scene.store.model.life.ready, scene.store.model.life.why) == (False, "behind")
