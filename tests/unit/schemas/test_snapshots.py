"""Records of ``usage.tables.v1``: their keys, and how a large table is split."""

from __future__ import annotations

from typing import cast

import msgspec
import pytest

from schemas.codec import encode
from schemas.events import KeptRequest, ShardCheckpoint, TableSnapshot
from schemas.outgoing import table_record, tombstone_record
from schemas.snapshots import PART_BYTES_MAX, key_of, kind_of, part_of, parts_of
from tests.support.event_samples import SAMPLES

_KEPT = cast("KeptRequest", SAMPLES["KeptRequest"])
_HOUR = msgspec.structs.replace(cast("TableSnapshot", SAMPLES["TableSnapshot"]), part=0, parts=1)


def _balance(org: str, suffix: str) -> TableSnapshot:
    return msgspec.structs.replace(
        _HOUR, org=org, table="balances", hour=None, values={suffix: 5, f"{suffix}\tlate": 1}
    )


@pytest.mark.parametrize(
    ("event", "key", "kind"),
    [
        (_HOUR, "acme|u:2023-11-14T22", "usage"),
        (_balance("acme", "b:org/tokens:2023-11"), "acme|b:org/tokens:2023-11", "balance"),
        (_KEPT, f"acme|k:{'ab' * 32}", "key"),
        (
            msgspec.structs.replace(_KEPT, idempotency_hash=None),
            f"acme|j:{_KEPT.request_id}",
            "job",
        ),
        (SAMPLES["ShardCheckpoint"], "3|checkpoint", "checkpoint"),
    ],
)
def test_a_key_tells_what_its_record_is_of(
    event: TableSnapshot | KeptRequest | ShardCheckpoint, key: str, kind: str
) -> None:
    """So that a rebuild reads balances first and decodes nothing else."""
    assert key_of(event) == key
    assert kind_of(key.encode()) == kind


def test_ids_that_look_like_keys_do_not_meet() -> None:
    """Ids may have slashes and colons, and never a bar."""
    one = _balance("a", "b:user/x/b:org/tokens:2023-11")
    other = _balance("a/b:user/x", "b:org/tokens:2023-11")

    assert key_of(one) != key_of(other)


def test_keys_of_versions_before_are_of_no_kind() -> None:
    """They had a slash where now is a bar."""
    assert kind_of(b"acme/2023-11-14T22") is None
    assert kind_of(b"acme/b:org/tokens:2023-11") is None


def _large(rows: int) -> TableSnapshot:
    values = {
        f"key_{row:05}\tada\techo\tb1\t{measure}": row
        for row in range(rows)
        for measure in ("requests", "input_tokens", "output_tokens", "cost_nano_usd")
    }
    return msgspec.structs.replace(_HOUR, values=values)


def test_a_table_larger_than_a_part_is_split_and_nothing_of_it_is_lost() -> None:
    """All measures of a row stand in one part, which the row alone decides."""
    whole = _large(10_000)

    parts = parts_of(whole)

    assert len(parts) == 4
    assert [part.part for part in parts] == list(range(4))
    assert {f: v for part in parts for f, v in part.values.items()} == whole.values
    for part in parts:
        assert len(encode(part)) <= PART_BYTES_MAX
        assert {part_of(field.rpartition("\t")[0], 4) for field in part.values} == {part.part}
    assert len({key_of(part) for part in parts}) == 4
    assert kind_of(key_of(parts[0]).encode()) == "usage"


def test_a_table_that_fits_is_one_record() -> None:
    """Nearly every table is."""
    assert parts_of(_HOUR) == [_HOUR]


def test_a_row_that_is_too_large_alone_stays_whole() -> None:
    """There is nothing left to split it by."""
    name = "m" * PART_BYTES_MAX
    whole = msgspec.structs.replace(_HOUR, values={f"k\tu\t{name}\tb\trequests": 1, "a\tr": 2})

    parts = parts_of(whole)

    assert {f: v for part in parts for f, v in part.values.items()} == whole.values


def test_a_table_stands_in_the_partition_of_its_shard() -> None:
    """Whatever its key would choose: a rebuild reads one partition."""
    assert table_record(_HOUR).partition == _HOUR.partition == 3


def test_a_tombstone_forgets_a_key_where_it_stands() -> None:
    """No value, the same key, the same partition."""
    gone = tombstone_record(3, key_of(_HOUR))

    assert gone.value is None
    assert (gone.topic, gone.key, gone.partition) == (
        table_record(_HOUR).topic,
        table_record(_HOUR).key,
        3,
    )
