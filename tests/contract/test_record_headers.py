"""Every kind of record that is produced is a CloudEvent, read here as the standard's Kafka binding says."""

from __future__ import annotations

import ast
import re
from datetime import UTC, datetime
from typing import Final, cast

import msgspec
import pytest

from schemas import headers, topics
from schemas.audit import RefusalTally, Refused
from schemas.codec import decode
from schemas.events import (
    AttemptAdjusted,
    AuditRecorded,
    ConfigEntry,
    KeptRequest,
    RequestAccepted,
    RequestAdmitted,
    RequestFinished,
    ShardCheckpoint,
    TableSnapshot,
    UsageRecorded,
    WebhookMessage,
)
from schemas.headers import KINDS, Kind
from schemas.outgoing import (
    Outgoing,
    accepted_headers,
    accepted_record,
    adjustment_record,
    admitted_record,
    audit_record,
    checkpoint_record,
    config_record,
    deferred_record,
    kept_record,
    outcome_record,
    result_record,
    table_record,
    usage_record,
    webhook_given_up_record,
    webhook_paused_record,
    webhook_record,
)
from tests.support.calls_in_code import parsed_files
from tests.support.event_samples import SAMPLES

_ACCEPTED = cast("RequestAccepted", SAMPLES["RequestAccepted"])
_FINISHED = cast("RequestFinished", SAMPLES["RequestFinished"])
_AUDITED = cast("AuditRecorded", SAMPLES["AuditRecorded"])
_MESSAGE = cast("WebhookMessage", SAMPLES["WebhookMessage"])
_CARRIED = {"request_id": _ACCEPTED.request_id.encode(), "deadline_ms": b"1700000060000"}


def _accepted(*, background: bool) -> Outgoing:
    request = msgspec.structs.replace(_ACCEPTED, background=background)
    return accepted_record(request, accepted_headers(request, b"00-" + b"1" * 32))


def _produced() -> list[Outgoing]:
    """A record of every kind, at every topic where it may stand, by every role that makes it."""
    admitted = cast("RequestAdmitted", SAMPLES["RequestAdmitted"])
    adjusted = cast("AttemptAdjusted", SAMPLES["AttemptAdjusted"])
    return [
        _accepted(background=False),
        _accepted(background=True),
        *(
            deferred_record(_ACCEPTED, tier, number, 1_700_000_000_000, _CARRIED)
            for number, tier in enumerate(topics.DEFERRED_DELAYS_MS, start=1)
        ),
        admitted_record(admitted, 3, _CARRIED),
        outcome_record(_FINISHED, "dispatcher", _CARRIED),
        outcome_record(_FINISHED, "limiter_worker"),
        result_record(_FINISHED, _CARRIED),
        adjustment_record(adjusted, _CARRIED),
        usage_record(cast("UsageRecorded", SAMPLES["UsageRecorded"])),
        table_record(cast("TableSnapshot", SAMPLES["TableSnapshot"])),
        checkpoint_record(cast("ShardCheckpoint", SAMPLES["ShardCheckpoint"])),
        kept_record(cast("KeptRequest", SAMPLES["KeptRequest"])),
        audit_record(_AUDITED, "ingress"),
        audit_record(_AUDITED, "limiter_worker"),
        audit_record(msgspec.structs.replace(_AUDITED, audit_id="a-1", request_id=None), "admin"),
        config_record(cast("ConfigEntry", SAMPLES["ConfigEntry"])),
        webhook_record(_MESSAGE),
        webhook_record(msgspec.structs.replace(_MESSAGE, round=2), "admin"),
        *(
            webhook_paused_record(_MESSAGE, tier, 1_700_000_000_000 + number)
            for number, tier in enumerate(topics.WEBHOOK_PAUSES_MS)
        ),
        webhook_given_up_record(_MESSAGE, 1_700_000_000_000),
    ]


_PRODUCED: Final = _produced()
_MEDIA_TYPE: Final = re.compile(r"[a-z]+/[a-z.+-]+")
_URI_REFERENCE: Final = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+")
_TYPE: Final = re.compile(r"dev\.tallygate(\.[a-z]+){2}\.v[1-9][0-9]*")
_UTC_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_ATTRIBUTE: Final = re.compile(r"[a-z0-9]{1,20}")
_REQUIRED: Final = {"id", "source", "specversion", "type"}


def _attributes(record: Outgoing) -> dict[str, str]:
    """The event's attributes by name, each checked; an independent reading of binding and specification."""
    names = [name for name, _ in record.headers]
    assert len(names) == len(set(names)), "an attribute stands once"
    found = {
        name.removeprefix("ce_"): value.decode("utf-8")
        for name, value in record.headers
        if name.startswith("ce_")
    }
    assert all(_ATTRIBUTE.fullmatch(name) and value for name, value in found.items())
    assert set(found) >= _REQUIRED
    assert found["specversion"] == "1.0"
    assert _URI_REFERENCE.fullmatch(found["source"])
    assert _TYPE.fullmatch(found["type"])
    assert _UTC_TIME.fullmatch(found["time"])
    assert "datacontenttype" not in found, "in binary mode this is the header content-type"
    found["datacontenttype"] = dict(record.headers)["content-type"].decode("utf-8")
    assert _MEDIA_TYPE.fullmatch(found["datacontenttype"])
    return found


def _kind_of(record: Outgoing) -> Kind:
    (kind,) = (kind for kind in KINDS if kind.type == _attributes(record)["type"])
    return kind


def _shown(record: Outgoing) -> str:
    attributes = _attributes(record)
    return f"{attributes['type']} of {attributes['source']} at {record.topic}"


@pytest.mark.parametrize("record", _PRODUCED, ids=_shown)
def test_a_record_says_what_its_value_is(record: Outgoing) -> None:
    """Its type and content type fit its bytes, and it stands where its kind may stand."""
    kind = _kind_of(record)

    assert record.topic in kind.topics
    if (kind.value,) == topics.RESULT_BYTES:
        assert msgspec.json.decode(record.value or b"")
        assert _attributes(record)["datacontenttype"] == "application/json"
    else:
        assert type(decode(record.value)).__name__ == kind.value
        assert _attributes(record)["datacontenttype"] == "application/avro"


def test_a_record_of_every_kind_is_read_at_every_topic_it_may_stand_on() -> None:
    """A new kind or a new topic needs a record in this file."""
    read = {(_kind_of(record), record.topic) for record in _PRODUCED}

    assert read == {(kind, topic) for kind in KINDS for topic in kind.topics}


def test_whatever_a_topic_holds_has_a_kind() -> None:
    """The list of topics and the list of kinds say the same; dead letters keep what they had."""
    listed = {
        (topic.name, value)
        for topic in topics.TOPICS
        for value in topic.records
        if topic.records != topics.ORIGINAL_BYTES
    }

    assert listed == {(topic, kind.value) for kind in KINDS for topic in kind.topics}


def test_no_two_events_of_a_request_share_source_and_id() -> None:
    """A consumer that drops what it knows by source and id drops no other event."""
    events = [record for record in _PRODUCED if record.topic != topics.BACKGROUND]
    known = [(_attributes(r)["source"], _attributes(r)["id"]) for r in events]

    assert len(known) == len(set(known))


def test_what_is_produced_again_is_equal() -> None:
    """Header for header: nothing of the moment or of the replica is in them."""
    assert _produced() == _PRODUCED


def test_time_is_that_of_the_event() -> None:
    """To the millisecond, in UTC."""
    time = _attributes(outcome_record(_FINISHED, "dispatcher"))["time"]

    assert datetime.fromisoformat(time) == datetime.fromtimestamp(
        _FINISHED.finished_at_ms / 1_000, UTC
    )


def test_a_refusal_among_others_is_found_by_the_ids_of_its_event() -> None:
    """An event about several requests names none of them in its headers."""
    tally = RefusalTally()
    for request_id in ("r1", "r2"):
        tally.add(Refused(request_id, "acme", "key_a", "RATE_LIMIT_EXCEEDED", 1_700_000_000_000))
    (event,) = tally.take()

    assert "request_id" not in dict(audit_record(event, "ingress").headers)


_ELSEWHERE: Final = {
    "schemas/runtime/kafka/consume/dead_letters.py",  # keeps the headers of what it buries
    "ingress/admin/log/dead_letters.py",  # gives them back
}


def _makers(name: str) -> list[str]:
    """Files that call ``name``."""
    return [
        path
        for path, tree in parsed_files()
        if any(
            isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name
            for node in ast.walk(tree)
        )
    ]


def test_records_are_put_together_in_one_place() -> None:
    """So that whatever is produced passes through this test."""
    assert set(_makers("Outgoing")) == {"schemas/outgoing.py", *_ELSEWHERE}
    assert _makers(headers.event_headers.__name__) == ["schemas/outgoing.py"]
