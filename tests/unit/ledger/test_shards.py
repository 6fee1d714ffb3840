"""Which shard an organization belongs to, and what its keys are."""

from __future__ import annotations

import pytest

from schemas.ledger import calls, keys
from schemas.ledger.documents import Look, Reap
from schemas.ledger.errors import LedgerUnavailable
from schemas.ledger.shards import Shards
from schemas.partitions import partition_of
from tests.support.model_store import ModelStore


def test_a_shard_is_the_partition_of_its_organizations() -> None:
    """So that what one partition says is enough to make it again."""
    shards = Shards(12)

    assert list(shards) == list(range(12))
    for org in ("acme", "a/b", "zürich"):
        assert shards.of(org) == partition_of(org.encode(), 12)


def test_every_key_of_a_call_has_the_tag_of_its_shard() -> None:
    """A cluster refuses a call that touches two slots."""
    look, reap = calls.look(7, Look(org="acme", req="r")), calls.reap(7, Reap(limit=1))

    assert look.command[3:5] == ("{7}|meta", "{7}|acme|a:r")
    assert reap.command[3:6] == ("{7}|meta", "{7}|exp", "{7}|inf")
    assert keys.of_org(7, "acme", "b:org/tokens:2026-11") == "{7}|acme|b:org/tokens:2026-11"


async def test_until_it_is_known_how_many_shards_there_are_nothing_is_asked() -> None:
    """A guess would find an empty ledger, and admit against zero."""
    store = ModelStore()
    ledger = store.client()
    ledger.known = None
    with pytest.raises(LedgerUnavailable):
        await ledger.look(Look(org="acme", req="r"))
    await ledger.learn(Shards(1))
    await ledger.look(Look(org="acme", req="r"))

    assert store.called == ["tg1_look"]
