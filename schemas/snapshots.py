"""Snapshots of a ledger shard as records: their keys, what a key is of, how a large table is split. Pure.

The one reading and writing of ``usage.tables.v1``. A key is ``<organization>|<suffix in the ledger>``, so that what
a record is of can be told without its value; ``|`` stands in no id. A usage hour above ``PART_BYTES_MAX`` is split
by rows, and each part stands for an offset of its own, so that a rebuild may find parts of different age.
"""

from __future__ import annotations

import zlib
from typing import Final, Literal, TypeAlias

import msgspec

from schemas.ledger import keys
from schemas.shard_events import KeptRequest, ShardCheckpoint, TableSnapshot

__all__ = [
    "PART_BYTES_MAX",
    "RecordKind",
    "checkpoint_key",
    "kept_key",
    "key_of",
    "kind_of",
    "part_of",
    "parts_of",
    "table_key",
]

PART_BYTES_MAX: Final = 512 * 1024
"""No part of a table is larger, unless it is one row."""
_BYTES_PER_CELL: Final = 12
"""What a field of a table takes in a record beside its name, at most."""

RecordKind: TypeAlias = Literal["balance", "usage", "key", "job", "checkpoint"]

_KINDS: Final[dict[str, RecordKind]] = {"b:": "balance", "u:": "usage", "k:": "key", "j:": "job"}
_CHECKPOINT: Final = "checkpoint"


def kind_of(key: bytes) -> RecordKind | None:
    """What a record with the key is of; ``None`` when versions before this one wrote it, whose tables were
    in whatever partition their key chose."""
    suffix = key.decode(errors="replace").partition("|")[2]
    return "checkpoint" if suffix == _CHECKPOINT else _KINDS.get(suffix[:2])


def checkpoint_key(shard: int) -> str:
    """The key of a shard's checkpoint."""
    return f"{shard}|{_CHECKPOINT}"


def table_key(org: str, suffix: str, part: int = 0, parts: int = 1) -> str:
    """The key of a table, named by its suffix in the ledger, or of a part of it."""
    whole = f"{org}|{suffix}"
    return whole if parts == 1 else f"{whole}|{part}/{parts}"


def kept_key(org: str, *, key_hash: str | None = None, job: str | None = None) -> str:
    """The key of an ended request that is found by the hash of its idempotency key, or by its id as a job."""
    return f"{org}|k:{key_hash}" if key_hash is not None else f"{org}|j:{job}"


def key_of(event: TableSnapshot | KeptRequest | ShardCheckpoint) -> str:
    """The record's key: what a later one with the same replaces."""
    match event:
        case ShardCheckpoint(shard=shard):
            return checkpoint_key(shard)
        case KeptRequest(org=org, idempotency_hash=str(key_hash)):
            return kept_key(org, key_hash=key_hash)
        case KeptRequest(org=org, request_id=request_id):
            return kept_key(org, job=request_id)
        case TableSnapshot(org=org, hour=str(hour)):
            return table_key(org, keys.usage_suffix(hour), event.part, event.parts)
        case TableSnapshot(org=org):
            return table_key(org, min(event.values))


def part_of(row: str, parts: int) -> int:
    """Which of ``parts`` a row of a usage table stands in."""
    return zlib.crc32(row.encode()) % parts


def parts_of(whole: TableSnapshot) -> list[TableSnapshot]:
    """The table in as few parts, by powers of two, as keep each below ``PART_BYTES_MAX``."""
    parts = 1
    sizes = {field: len(field.encode()) + _BYTES_PER_CELL for field in whole.values}
    if sum(sizes.values()) <= PART_BYTES_MAX:
        return [whole]
    while True:
        parts *= 2
        split: list[dict[str, int]] = [{} for _ in range(parts)]
        for field, value in whole.values.items():
            split[part_of(_row_of(field), parts)][field] = value
        largest = max(split, key=lambda part: sum(sizes[field] for field in part))
        if sum(sizes[field] for field in largest) <= PART_BYTES_MAX or _is_one_row(largest):
            return [
                msgspec.structs.replace(whole, values=values, part=part, parts=parts)
                for part, values in enumerate(split)
            ]


def _row_of(field: str) -> str:
    return field.rpartition("\t")[0]


def _is_one_row(values: dict[str, int]) -> bool:
    return len({_row_of(field) for field in values}) == 1
