"""How far the workers are behind, from offsets and times."""

from __future__ import annotations

from aiokafka import TopicPartition

from ingress.admin.fleet.lag import lags_of, next_offset
from schemas.runtime.kafka.free_consumer import Positions
from schemas.topics import DISPATCH

GROUP = "tallygate-dispatcher"
FIRST, SECOND = TopicPartition(DISPATCH, 0), TopicPartition(DISPATCH, 1)
NOW_MS = 1_000_000


def test_lag_is_counted_from_the_committed_offset_and_timed_by_its_record() -> None:
    """Records and the age of the oldest of them."""
    positions = {FIRST: Positions(0, 50), SECOND: Positions(0, 7)}

    first, second = lags_of({GROUP: {FIRST: 47, SECOND: 7}}, positions, {FIRST: 998_500}, NOW_MS)

    assert (first.committed, first.end, first.lag, first.lag_ms) == (47, 50, 3, 1_500)
    assert (second.lag, second.lag_ms) == (0, 0)
    assert first.group == GROUP


def test_a_group_that_never_committed_is_behind_by_all_there_is() -> None:
    """What retention took away does not count."""
    (lag,) = lags_of({}, {FIRST: Positions(40, 50)}, {}, NOW_MS)

    assert (lag.committed, lag.lag, lag.lag_ms) == (None, 10, None)


def test_an_offset_that_retention_has_passed_counts_from_the_oldest_record() -> None:
    """Nothing before it can be read."""
    assert next_offset(3, Positions(40, 50)) == 40
    assert next_offset(45, Positions(40, 50)) == 45


def test_topics_that_no_group_reads_have_no_lag() -> None:
    """A dead letter topic is nobody's backlog."""
    assert lags_of({}, {TopicPartition(f"{DISPATCH}.dlq", 0): Positions(0, 9)}, {}, NOW_MS) == []
