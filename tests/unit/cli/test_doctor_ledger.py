"""``tallygate doctor`` names what is wrong with the ledger and with the servers that hold it."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.cli.commands.doctor import check_servers, check_shards

_SHARD: dict[str, Any] = {"shard": 0, "state": "whole", "why": "", "decides": True}
_SERVER: dict[str, Any] = {
    "maxmemory_bytes": 9,
    "policy": "noeviction",
    "appends": True,
    "last_write": "ok",
}


def test_shards_that_decide_nothing_are_named() -> None:
    """With their state, and why."""
    closed = {"shard": 1, "state": "closed", "why": "restarted", "decides": False}
    assert check_shards([_SHARD]).is_ok
    assert check_shards([_SHARD, closed]).text == "shard 1: closed restarted"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"maxmemory_bytes": 0}, "maxmemory is not set"),
        ({"policy": "allkeys-lru"}, "it drops keys: allkeys-lru"),
        ({"appends": False}, "appendonly is off"),
        ({"last_write": "err"}, "its last write: err"),
    ],
)
def test_a_server_that_may_lose_what_it_acknowledged_is_told(
    change: dict[str, Any], told: str
) -> None:
    """Each fault once, however many servers have it; with what to set."""
    assert check_servers([_SERVER, _SERVER]).is_ok
    found = check_servers([_SERVER, _SERVER | change, _SERVER | change])
    assert (found.text, found.is_ok) == (told, False)
