"""The servers of a running stack's ledger, looked at from outside, whether there is one or a cluster.

It uses nothing of the gateway's code but the words of the keys: a shard's number in braces, `|` between parts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

HOST = "127.0.0.1"
COST = "cost_nano_usd"
SHARDS_MAX = 16
"""No stack of these tests has more."""
_WITHIN_S = 2.0
_LOOK_WITHIN_S = 0.3
"""A server that stands still must not keep anybody from looking at the others."""
_PAGE = 1_000


@dataclass(frozen=True)
class StoreServer:
    """One server: its name in the stack, its port, its folder."""

    name: str
    port: int
    folder: Path

    def open(self, within_s: float = _WITHIN_S) -> redis.Redis:
        """A client of this server alone."""
        return redis.Redis(host=HOST, port=self.port, socket_timeout=within_s)

    def is_primary(self) -> bool:
        """Whether it says that it is one; one that does not answer is none."""
        with suppress(redis.RedisError, OSError), self.open() as store:
            return bool(store.execute_command("ROLE")[0] == b"master")
        return False


@dataclass(frozen=True)
class Meta:
    """What a shard says of itself."""

    epoch: int
    is_ready: bool
    has_claims: bool
    is_complete: bool


def ledger_servers(state_dir: Path) -> list[StoreServer]:
    """All of them, by name."""
    ports = json.loads((state_dir / "stack.json").read_text())["ports"]
    names = sorted(
        name for name in ports if name.startswith("ledger") and not name.endswith("-link")
    )
    return [StoreServer(name, int(ports[name]), state_dir / name) for name in names]


def primaries(servers: list[StoreServer]) -> list[StoreServer]:
    """Those that hold keys now."""
    return [server for server in servers if server.is_primary()]


def metas(servers: list[StoreServer]) -> dict[int, Meta]:
    """Shards by number, of servers that answer; one that has no meta is left out.

    While two servers take themselves for the primary of a shard, its later life counts.
    """
    found: dict[int, Meta] = {}
    for server in servers:
        with suppress(redis.RedisError, OSError), server.open(_LOOK_WITHIN_S) as store:
            if store.execute_command("ROLE")[0] == b"master":
                for number, meta in _metas_of(store):
                    if number not in found or found[number].epoch < meta.epoch:
                        found[number] = meta
    return found


def _metas_of(store: redis.Redis) -> Iterator[tuple[int, Meta]]:
    """Asked by name, since looking for them among all keys would slow down what is looked at."""
    with store.pipeline(transaction=False) as asked:
        for number in range(SHARDS_MAX):
            asked.hmget(f"{{{number}}}|meta", "epoch", "ready", "claims", "complete")
        # Of another server's shards a cluster's server says whom to ask.
        answers = asked.execute(raise_on_error=False)
    for number, fields in enumerate(answers):
        if isinstance(fields, list) and fields[0] is not None:
            yield number, Meta(int(fields[0]), *(field == b"1" for field in fields[1:]))


def orgs_of(servers: list[StoreServer]) -> dict[str, dict[int, set[str]]]:
    """By primary and shard, the organizations that have a balance there."""
    found: dict[str, dict[int, set[str]]] = {}
    for server in primaries(servers):
        shards = found.setdefault(server.name, {})
        for org, key, _ in _keys([server], "b:*"):
            number = int(key[1 : key.index(b"}")])
            shards.setdefault(number, set()).add(org)
    return found


def table_costs(servers: list[StoreServer]) -> dict[str, int]:
    """What the usage tables say each organization has spent, in nano-USD."""
    costs: dict[str, int] = {}
    for org, key, store in _keys(servers, "u:*"):
        table: Any = store.hgetall(key)
        for name, value in table.items():
            if name.decode().endswith(f"\t{COST}"):
                costs[org] = costs.get(org, 0) + int(value)
    return costs


def settled(servers: list[StoreServer], balance: str) -> dict[str, int]:
    """What is settled on a balance of each organization."""
    return {
        org: int(store.hget(key, "settled") or 0)
        for org, key, store in _keys(servers, f"b:{balance}")
    }


def held(servers: list[StoreServer]) -> dict[str, int]:
    """What is on hold, by key: reserved, put aside for restored attempts, places of calls."""
    found: dict[str, int] = {}
    for _, key, store in _keys(servers, "b:*"):
        reserved, spare = store.hmget(key, "reserved", "spare")
        found[key.decode()] = int(reserved or 0) + int(spare or 0)
    for _, key, store in _keys(servers, "c:*"):
        found[key.decode()] = int(store.zcard(key))
    return found


def _keys(servers: list[StoreServer], suffix: str) -> Iterator[tuple[str, bytes, redis.Redis]]:
    """Organization, key and where it is, of all keys of organizations with this suffix."""
    for server in primaries(servers):
        with server.open() as store:
            for key in list(store.scan_iter(f"{{*}}|*|{suffix}", count=_PAGE)):
                yield key.decode().split("|")[1], key, store
