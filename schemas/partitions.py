"""The partition that a key goes to: what every Kafka client chooses by default. Pure.

Its own implementation, because who must name the partition of an organization is not always who speaks to Kafka.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Final

__all__ = ["partition_of", "partition_of_org"]

_SEED: Final = 0x9747B28C
_FACTOR: Final = 0x5BD1E995
_WORD: Final = 0xFFFFFFFF
_POSITIVE: Final = 0x7FFFFFFF


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of so many that records with this key stand in (murmur2)."""
    return (_murmur2(key) & _POSITIVE) % partitions


@lru_cache(maxsize=65_536)
def partition_of_org(org: bytes, partitions: int) -> int:
    """The same of an organization's key, which comes again and again: remembered, 15 MB for as many as that. The key of a
    request comes once; whoever asks for it here remembers it for nothing."""
    return partition_of(org, partitions)


def _murmur2(key: bytes) -> int:
    """The hash of Kafka's own partitioner, as 32 bits without a sign."""
    whole = len(key) & ~3
    mixed = _SEED ^ len(key)
    for (word,) in struct.iter_unpack("<I", key[:whole]):
        scattered = (word * _FACTOR) & _WORD
        scattered = ((scattered ^ scattered >> 24) * _FACTOR) & _WORD
        mixed = ((mixed * _FACTOR) & _WORD) ^ scattered
    if rest := key[whole:]:
        mixed = ((mixed ^ int.from_bytes(rest, "little")) * _FACTOR) & _WORD
    mixed = ((mixed ^ mixed >> 13) * _FACTOR) & _WORD
    return mixed ^ mixed >> 15
