"""Lanes of a topic: which records are the next batch."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from schemas.runtime.kafka.consume.lanes import Lanes


def _record(partition: int, offset: int) -> Any:
    return cast("Any", SimpleNamespace(partition=partition, offset=offset))


def _places(batch: list[Any]) -> list[tuple[int, int]]:
    return [(record.partition, record.offset) for record in batch]


def test_a_topic_is_one_lane_of_so_many_batches() -> None:
    """In the order of arrival; what arrives meanwhile is the next batch."""
    lanes = Lanes(batch_max=2, batches_max=2, by_partition=False)
    assert all(lanes.add(_record(offset % 2, offset)) for offset in range(5))

    first, second = lanes.take(), lanes.take()
    assert [_places(first), _places(second)] == [[(0, 0), (1, 1)], [(0, 2), (1, 3)]]
    assert lanes.take() == []
    assert not lanes.add(_record(0, 5))
    assert lanes.end(second)
    assert _places(lanes.take()) == [(0, 4), (0, 5)]
    assert not lanes.end(first)


@pytest.mark.parametrize("closed", [0, 1])
def test_a_partition_is_a_lane_of_its_own(closed: int) -> None:
    """One batch of each at a time, so its order is kept; none waits for another."""
    lanes = Lanes(batch_max=8, batches_max=1, by_partition=True)
    for offset in range(2):
        assert lanes.add(_record(0, offset))
        assert lanes.add(_record(1, offset))
    batches = {batch[0].partition: batch for batch in (lanes.take(), lanes.take())}
    assert {n: _places(batch) for n, batch in batches.items()} == {
        0: [(0, 0), (0, 1)],
        1: [(1, 0), (1, 1)],
    }
    assert not lanes.add(_record(closed, 2))
    assert not lanes.add(_record(1 - closed, 2))

    assert lanes.end(batches[1 - closed])
    assert _places(lanes.take()) == [(1 - closed, 2)]
    assert lanes.take() == []
    assert _places(lanes.clear()) == [(closed, 2)]
    assert not lanes.end(batches[closed])
