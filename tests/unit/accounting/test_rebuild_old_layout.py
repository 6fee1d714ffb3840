"""Keys of the version before are told from those of today, taken over and removed once."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from accounting.rebuild.old_layout import OldLayout, OldRequest, is_of_old_layout
from schemas.ledger import keys
from schemas.ledger.rebuild_calls import RestoredClaim, RestoredJob
from schemas.ledger.shards import Shards
from schemas.runtime.ledger.client import LedgerClient
from tests.support.events import finished

_CLAIM = RestoredClaim(
    org="acme", key_hash="h", req="r", fingerprint="f", produce_by_ms=1, deadline_ms=2, until_ms=3
)
_JOB = RestoredJob(org="acme", req="r", info="[]", created_ms=1, until_ms=3, ends="[200]")


class _Store:
    """A store of keys without values."""

    def __init__(self, *names: str) -> None:
        self.names = {name.encode() for name in names}

    async def call(self, *command: str | bytes) -> object:
        match command[0]:
            case "EXISTS":
                return int(str(command[1]).encode() in self.names)
            case "SCAN":
                return [b"0", sorted(self.names)]
        key = command[1]
        self.names.discard(key if isinstance(key, bytes) else key.encode())
        return 1


@pytest.mark.parametrize(
    "key", ["{acme}:b:org/tokens:total", "meta", "ended:3", "cfg:lease", "dlq:retried:x"]
)
def test_a_key_of_before_is_known(key: str) -> None:
    """Without a shard."""
    assert is_of_old_layout(key.encode())


def test_no_key_of_today_is_one_of_before() -> None:
    """Of shards, organizations, the configuration and what was processed."""
    today = (
        keys.of_shard(3, keys.META),
        keys.attempt(3, "acme", "r"),
        keys.CONFIG_APPLIED,
        keys.processed("inference.outcomes.v1", 3),
        keys.dead_letter_retried("x"),
    )
    assert not [key for key in today if is_of_old_layout(key.encode())]


async def test_they_are_removed_once() -> None:
    """Where the old meta stands; nothing is looked for otherwise."""
    store: Any = _Store("meta", "{acme}:m", "{3}|meta", "{3}|acme|m")
    old = OldLayout(store, LedgerClient(store, Shards(4)))
    assert await old.forget() == 2
    assert store.names == {b"{3}|meta", b"{3}|acme|m"}
    assert await old.forget() == 0


def test_an_outcome_of_before_is_completed_by_what_the_store_knew() -> None:
    """So that its key and its job are found by the log alone from then on."""
    completed = OldRequest(_CLAIM, _JOB).completes(finished([], []))
    assert (completed.idempotency_hash, completed.fingerprint, completed.job) == ("h", "f", "[]")


def test_an_outcome_that_says_it_itself_stays_as_it_is() -> None:
    """One that this version wrote."""
    said = msgspec.structs.replace(
        finished([], []), idempotency_hash="own", fingerprint="g", job="{}"
    )
    assert OldRequest(_CLAIM, _JOB).completes(said) == said
