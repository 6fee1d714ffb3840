"""The one list of Redis keys of the ledger store. Pure.

Every key of a shard begins with the shard's number as its hash tag, `{7}|`, so that a cluster keeps a shard
together; those of an organization go on with its name. `|` cannot stand in a name. Balances, buckets and
leases are named by suffix, because a document given to the ledger carries suffixes and the ledger puts the
rest in front.
"""

from __future__ import annotations

from functools import lru_cache

META = "meta"
"""Hash: epoch, ready, layout, run_id and more (library.lua). Absent until its shard is initialised or rebuilt."""

EXPIRING = "exp"
"""Zset of `<org>|<request>`: what `reap` has to look at, by the time it is due."""

INFLIGHT = "inf"
"""Zset of `<org>|<request>`: running attempts by lease expiry."""

FINISHED = "fin"
"""Zset of `<org>|<request>`: finished and not booked yet, by the time of `finish`."""

ENDED = "ended"
"""List: `<due ms>|<org>|<request>` of booked attempts, to be forgotten by the log's clock."""

AWAITED = "awaited"
"""String: a filter of requests whose marks a rebuild still brings (attempts.lua)."""

FORGOT = "forgot"
"""String: the latest time in the log up to which marks were forgotten, in ms."""

CHANGED = "changed"
"""Zset of `<org>|<suffix of a table>`: tables that changed since they were written to the log, by outcome offset."""

KEPT = "kept"
"""Zset of keys of records in `usage.tables.v1`, by when they are to be forgotten there, in ms."""

REPORTED = "reported"
"""Hash: `offset` of the first outcome of which the external budget service has not been told; `returned`, of the last
that takes spend back."""

RESTORED = "restored"
"""Set of usage hours that a rebuild has added."""

CONFIG_APPLIED = "{cfg}|applied"
"""Hash: process instance to the config offset it has applied."""

CONFIG_LEASE = "{cfg}|lease"
"""String: token of the one process that may write the configuration now."""

_BATCH_LEASES = "{cfg}|batch|"
"""Strings, one a batch: token of the process that runs it now."""

BACKEND_HEALTH = "{cfg}|health"
"""Hash: `<dispatcher instance>|<backend>` to its health as JSON."""

BROKER_DISK = "{cfg}|disk"
"""Hash: host of a broker to `<free bytes> <total bytes> <unix ms>` of the disk that holds its log."""

_SHARD_KEYS_MAX = 16_384
"""More than any topic has partitions, times the names above."""


@lru_cache(maxsize=_SHARD_KEYS_MAX)
def of_shard(shard: int, name: str) -> str:
    """The full key of one of a shard's own names."""
    return f"{{{shard}}}|{name}"


def shard_in(key: str) -> int:
    """The shard of a key of a shard."""
    return int(key[1 : key.index("}")])


def of_org(shard: int, org: str, suffix: str) -> str:
    """The full key of a suffix inside an organization."""
    return f"{{{shard}}}|{org}|{suffix}"


def attempt(shard: int, org: str, request: str) -> str:
    """Hash: the state of a request's current attempt."""
    return f"{{{shard}}}|{org}|a:{request}"


def request_in(key: str) -> str | None:
    """The request of the key of an attempt; ``None`` of any other key."""
    _, found, request = key.rpartition("|a:")
    return request if found else None


def balance_suffix(scope: str, period: str) -> str:
    """Hash: settled, reserved, over, late of one scope in one period."""
    return f"b:{scope}:{period}"


def totals_suffix(balance: str) -> str:
    """Hash: what the log booked for the same scope and period as the balance suffix given."""
    return f"t:{balance.removeprefix('b:')}"


def rate_suffix(limit: str) -> str:
    """String: theoretical arrival time of a token bucket."""
    return f"r:{limit}"


ORG_SCOPE = "org"
"""The organization as a whole, inside its own keys."""


def scope(kind: str, entity_id: str) -> str:
    """A project, key or user of an organization, inside the organization's keys."""
    return f"{kind}/{entity_id}"


def token_rate_suffix(scope_name: str) -> str:
    """The bucket of tokens per minute of a scope."""
    return rate_suffix(f"{scope_name}/tokens")


def request_rate_suffix(scope_name: str) -> str:
    """The bucket of requests per second of a scope."""
    return rate_suffix(f"{scope_name}/requests")


def lease_suffix(limit: str) -> str:
    """Zset: concurrency leases, request ids by expiry."""
    return f"c:{limit}"


def told_suffix(balance: str) -> str:
    """Hash: `<percentage>:<amount of the limit>` of what was told of the balance suffix given."""
    return f"n:{balance.removeprefix('b:')}"


def usage_suffix(hour: str) -> str:
    """Hash: usage table of one UTC hour, such as `2026-11-21T12`."""
    return f"u:{hour}"


def mark(shard: int, org: str) -> str:
    """Hash: per partition, the offset of the last booked outcome."""
    return of_org(shard, org, "m")


def idempotency(shard: int, org: str, key_hash: str) -> str:
    """Hash: request_id, fingerprint, produce_by_ms, deadline_ms of one idempotency key."""
    return of_org(shard, org, f"k:{key_hash}")


def jobs(shard: int, org: str) -> str:
    """Zset: job ids by time."""
    return of_org(shard, org, "jobs")


def signature(shard: int, org: str, digest: str) -> str:
    """String: a signature of a request that was used, until its timestamp is too old anyway."""
    return of_org(shard, org, f"s:{digest}")


def dead_letter_retried(letter: str) -> str:
    """String: a dead letter that was produced again, so that it is once only."""
    return f"{{dlq}}|retried:{letter}"


def processed(topic: str, partition: int) -> str:
    """Hash: how far a partition of the log was processed, whatever becomes of its consumer group."""
    return f"{{d:{topic}:{partition}}}"


def batch_lease(batch: str) -> str:
    """Where the right to run a batch stands."""
    return _BATCH_LEASES + batch
