"""Keys of the version before are told from those of today, and removed once."""

from __future__ import annotations

import pytest

from accounting.rebuild.old_layout import forget_old_layout, is_of_old_layout
from schemas.ledger import keys


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
    store = _Store("meta", "{acme}:m", "{3}|meta", "{3}|acme|m")
    assert await forget_old_layout(store) == 2  # type: ignore[arg-type]
    assert store.names == {b"{3}|meta", b"{3}|acme|m"}
    assert await forget_old_layout(store) == 0  # type: ignore[arg-type]
