"""Where the records of a request can stand, and which records are of it."""

from __future__ import annotations

import msgspec
import pytest
from aiokafka import ConsumerRecord, TopicPartition

from ingress.admin.log.request_search import owed_by, partitions_of
from schemas.audit import RefusalTally, Refused
from schemas.codec import encode
from schemas.partitions import partition_of
from schemas.timeline import found_in
from schemas.topics import AUDIT, CONFIG, DISPATCH, OUTCOMES, REQUESTS, TOPICS, USAGE_RECORDS
from tests.support.events import NOW_MS, REQUEST_ID, accepted, attempt, finished
from tests.unit.admin.test_verify import LINE

COUNTS = {topic.name: 4 for topic in TOPICS}


def record(value: bytes | None) -> ConsumerRecord:
    return ConsumerRecord(REQUESTS, 3, 41, NOW_MS, 1, b"acme", value, None, 0, 0, ())


def test_a_known_organization_leaves_one_partition_of_each_topic() -> None:
    """Dispatch is keyed by the request, everything else by who pays."""
    partitions = partitions_of(REQUEST_ID, "acme", COUNTS)

    number = partition_of(b"acme", 4)
    of_org = {TopicPartition(t, number) for t in (REQUESTS, OUTCOMES, USAGE_RECORDS, AUDIT)}
    dispatched = TopicPartition(DISPATCH, partition_of(REQUEST_ID.encode(), 4))
    assert of_org | {dispatched} <= partitions
    assert len({p.topic for p in partitions}) == len(partitions)


def test_without_an_organization_all_partitions_are_read() -> None:
    """Except of dispatch, whose key is the request itself."""
    partitions = partitions_of(REQUEST_ID, None, COUNTS)

    counted = {t: sum(p.topic == t for p in partitions) for t in (REQUESTS, OUTCOMES, DISPATCH)}
    assert counted == {REQUESTS: 4, OUTCOMES: 4, DISPATCH: 1}


def test_configuration_and_dead_letters_are_not_read() -> None:
    """They hold no record of a request's path; a missing topic has no partitions."""
    names = {p.topic for p in partitions_of(REQUEST_ID, None, COUNTS | {AUDIT: 0})}

    assert CONFIG not in names
    assert AUDIT not in names
    assert not any(name.endswith(".dlq") for name in names)


def test_a_record_of_the_request_is_found_with_its_place() -> None:
    """Topic, partition, offset and the time it was appended."""
    one = found_in(record(encode(accepted())), REQUEST_ID)

    assert one is not None
    assert (one.ref.topic, one.ref.partition, one.ref.offset) == (REQUESTS, 3, 41)
    assert (one.appended_at_ms, one.event) == (NOW_MS, accepted())


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"\x00garbage " + REQUEST_ID.encode(),
        encode(accepted(request_id="018bcfe5-6800-7000-8000-00000000ffff")),
        encode(accepted(request_id="another", payload=REQUEST_ID.encode())),
    ],
    ids=["empty", "malformed", "another request", "a request that only mentions the id"],
)
def test_other_records_are_not(value: bytes | None) -> None:
    """A client cannot smuggle its prompt into the story of another request."""
    assert found_in(record(value), REQUEST_ID) is None


def test_an_audit_event_that_lists_the_request_is_found() -> None:
    """It is all there is of a request that was refused before the log."""
    tally = RefusalTally()
    for request_id in (REQUEST_ID, "018bcfe5-6800-7000-8000-00000000ffff"):
        tally.add(Refused(request_id, "acme", "key_a", "RATE_LIMIT_EXCEEDED", NOW_MS))
    (event,) = tally.take()

    assert found_in(record(encode(event)), REQUEST_ID) is not None
    assert found_in(record(encode(event)), "018bcfe5-6800-7000-8000-00000000fffe") is None


def test_what_a_request_must_have_in_the_log_is_looked_for_until_it_is_found() -> None:
    """An outcome after an outage, a usage line of accounting that was away."""
    outcome = finished([attempt(1), attempt(2)], [])
    lines = [msgspec.structs.replace(LINE, attempt=number) for number in (1, 2)]

    assert owed_by([accepted()]) == {OUTCOMES, USAGE_RECORDS}
    assert owed_by([accepted(), outcome]) == {USAGE_RECORDS}
    assert owed_by([accepted(), outcome, lines[0]]) == {USAGE_RECORDS}
    assert owed_by([accepted(), outcome, *lines]) == set()
    assert owed_by([accepted(), finished([], [])]) == set()


def test_nothing_is_owed_by_what_is_not_or_no_longer_in_the_log() -> None:
    """Nobody heard of it, ingress refused it, or only its usage lines are still kept."""
    tally = RefusalTally()
    tally.add(Refused(REQUEST_ID, "acme", "key_a", "RATE_LIMIT_EXCEEDED", NOW_MS))

    assert owed_by([]) == set()
    assert owed_by(tally.take()) == set()
    assert owed_by([LINE]) == set()
