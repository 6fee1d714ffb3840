"""A key's partition is the one every Kafka client chooses."""

from __future__ import annotations

import pytest
from aiokafka.partitioner import murmur2
from hypothesis import given
from hypothesis import strategies as st

from schemas.partitions import partition_of

_MURMUR2 = {
    b"21": -973_932_308,
    b"foobar": -790_332_482,
    b"a-little-bit-long-string": -985_981_536,
    b"a-little-bit-longer-string": -1_486_304_829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58_897_971,
    b"abc": 479_470_107,
}
"""From Kafka's own test of its hash (``UtilsTest.testMurmur2``)."""


@pytest.mark.parametrize("key", _MURMUR2)
@pytest.mark.parametrize("partitions", [1, 4, 12])
def test_the_partition_is_that_of_the_java_client(key: bytes, partitions: int) -> None:
    """Replays and other producers must meet ours on one partition."""
    assert partition_of(key, partitions) == (_MURMUR2[key] & 0x7FFF_FFFF) % partitions


@given(st.binary())
def test_our_hash_is_that_of_the_client_library(key: bytes) -> None:
    """Whose own topics are partitioned by it, too."""
    assert partition_of(key, 1_000_003) == (murmur2(key) & 0x7FFF_FFFF) % 1_000_003


@given(st.binary(), st.integers(1, 1_000))
def test_every_key_has_a_partition(key: bytes, partitions: int) -> None:
    """Also the empty one."""
    assert 0 <= partition_of(key, partitions) < partitions
