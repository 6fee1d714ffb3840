"""Where a partition is read from: above what was processed, and never above what was not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from schemas.runtime.kafka.consume.offsets import Mark, encode_mark
from schemas.runtime.kafka.consume.records import Record
from schemas.runtime.kafka.consume.starting import Extent, mark_of, start_of
from schemas.runtime.kafka.consume.starts import Starts

_PARTITION = ("inference.requests.v1", 3)
_NEWEST_MS = 1_700


@pytest.mark.parametrize(
    ("committed", "kept", "expected"),
    [
        (None, None, None),
        (None, Mark(7), Mark(7)),
        ((7, encode_mark(Mark(7, ((8, 9),), 5))), None, Mark(7, ((8, 9),), 5)),
        ((0, ""), Mark(7), Mark(7)),
        ((0, ""), None, Mark(0, is_ours=False)),
        ((9, ""), Mark(7), Mark(9, is_ours=False)),
        ((9, encode_mark(Mark(9))), Mark(7), Mark(9)),
    ],
    ids=["new", "commit lost", "ledger away", "reset", "reset without", "set forward", "behind"],
)
def test_what_was_processed_is_what_either_place_says(
    committed: tuple[int, str] | None, kept: Mark | None, expected: Mark | None
) -> None:
    """A group that was reset to its earliest offset says less than the ledger does."""
    assert mark_of(committed, kept) == expected


@pytest.mark.parametrize(
    ("mark", "extent", "start"),
    [
        (None, Extent(4, 9, None), 4),
        (Mark(6, (), _NEWEST_MS), Extent(0, 9, _NEWEST_MS), 6),
        (Mark(9, (), _NEWEST_MS), Extent(0, 9, _NEWEST_MS), 9),
        (Mark(6, (), 0), Extent(0, 9, None), 6),
        (Mark(6, (), _NEWEST_MS), Extent(8, 9, None), 8),
        (Mark(0, (), 0), Extent(0, 0, None), 0),
    ],
    ids=["new", "in the middle", "at the end", "time unknown", "below what is left", "empty"],
)
def test_reading_begins_above_the_mark(mark: Mark | None, extent: Extent, start: int) -> None:
    """Or at the beginning of the log, where retention took what was next."""
    assert start_of(_PARTITION, mark, extent) == start


@pytest.mark.parametrize(
    ("mark", "extent", "cause"),
    [
        (Mark(6), Extent(0, 5, None), "processed up to offset 6, but the log ends at 5"),
        (Mark(2, ((4, 6),)), Extent(0, 5, None), "up to offset 6, but the log ends at 5"),
        (Mark(6, (), _NEWEST_MS), Extent(0, 50, 1_800), "in another log of this name"),
        (Mark(6, (), _NEWEST_MS), Extent(0, 50, None), "in another log of this name"),
        (Mark(0, ((1, 6),), _NEWEST_MS), Extent(0, 50, 1_800), "in another log of this name"),
    ],
    ids=["shorter", "shorter than the runs", "grown longer", "older", "only runs"],
)
def test_another_log_of_the_same_name_is_never_skipped(
    mark: Mark, extent: Extent, cause: str
) -> None:
    """It waits, and says what an operator has to do."""
    start = start_of(_PARTITION, mark, extent)

    assert isinstance(start, str)
    assert cause in start
    assert "{d:inference.requests.v1:3}" in start


@pytest.mark.parametrize(
    ("offset", "generation", "end", "is_fresh"),
    [(40, 2, 40, True), (39, 2, 40, False), (40, 1, 40, False), (40, 2, None, False)],
    ids=["appended after", "appended before", "of an older generation", "not begun yet"],
)
def test_what_was_appended_after_its_partition_came_was_given_to_nobody_else(
    offset: int, generation: int, end: int | None, is_fresh: bool
) -> None:
    """By the log's end at that time, in the generation of the group that runs."""
    consumer = SimpleNamespace(app=SimpleNamespace(consumer_generation_id=2))
    starts = Starts(cast("Any", consumer))
    starts.ends = {} if end is None else {_PARTITION: end}
    topic, partition = _PARTITION
    record = SimpleNamespace(topic=topic, partition=partition, offset=offset, generation=generation)

    assert starts.is_fresh(cast("Record", record)) is is_fresh
