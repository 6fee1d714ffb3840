"""Repeated refusals become few audit events, and each request stays findable."""

from __future__ import annotations

from itertools import count

import msgspec
import pytest

from schemas import audit
from schemas.audit import IDS_PER_EVENT, Bounds, RefusalTally, Refused, is_about
from schemas.events import AuditRecorded, Denial
from schemas.topics import MAX_RECORD_BYTES

_NUMBERS = count()
SHARE = Denial(
    limit_id="org:in_flight", limit_type="rate_limit", unit="requests", current_usage=4, limit=4
)


def _refused(**more: object) -> Refused:
    fields: dict[str, object] = {
        "request_id": f"id-{next(_NUMBERS)}",
        "org": "acme",
        "actor": "key_a",
        "code": "RATE_LIMIT_EXCEEDED",
        "at_ms": 5_000,
        "denial": SHARE,
    }
    return Refused(**(fields | more))  # type: ignore[arg-type]


def test_refusals_of_one_cause_and_second_share_an_event() -> None:
    """Which says how many, of which limit, and lists them."""
    tally = RefusalTally()
    refused = [_refused(at_ms=5_000 + n) for n in range(3)]
    for one in refused:
        tally.add(one)

    (event,) = tally.take()

    detail = msgspec.json.decode(event.detail)
    assert (event.org, event.actor, event.action) == ("acme", "key_a", "refused")
    assert (event.request_id, event.at_ms) == (None, 5_000)
    assert (detail["count"], detail["limit_id"]) == (3, "org:in_flight")
    assert detail["request_ids"] == [one.request_id for one in refused]
    assert all(is_about(event, one.request_id) for one in refused)
    assert not is_about(event, "id-of-another")


def test_an_event_that_only_mentions_a_request_is_not_about_it() -> None:
    """Administrative events quote what was written, which may be anything."""
    event = AuditRecorded(
        audit_id="a", org="acme", action="admin.put", actor="admin", at_ms=1, detail='{"x": "id-1"}'
    )

    assert not is_about(event, "id-1")


def test_refusals_that_are_grouped_anew_after_a_kill_lose_none() -> None:
    """Whoever drops an event by its id drops one that says the same, and no other."""

    def told(*refused: Refused) -> AuditRecorded:
        tally = RefusalTally()
        for one in refused:
            tally.add(one)
        (event,) = tally.take()
        return event

    first, second, third = (_refused() for _ in range(3))

    assert told(first, second) == told(first, second)
    ids = [told(first).audit_id, told(first, second).audit_id, told(first, third).audit_id]
    assert len({*ids, told(first, second, third).audit_id}) == 4


def test_a_refusal_alone_is_an_event_as_any_other() -> None:
    """Under its own id."""
    tally = RefusalTally()
    refused = _refused(model="echo")
    tally.add(refused)

    (event,) = tally.take()

    detail = msgspec.json.decode(event.detail)
    assert event.request_id == refused.request_id
    assert event.audit_id == f"{refused.request_id}:refused"
    assert (detail["model"], "request_ids" in detail) == ("echo", False)


def _bounds_told(*bounds: Bounds | None) -> object:
    tally = RefusalTally()
    for each in bounds:
        tally.add(_refused(bounds=each))
    (event,) = tally.take()
    return msgspec.json.decode(event.detail).get("bounds", "nothing")


def test_an_event_says_what_its_requests_could_have_used() -> None:
    """Tokens, and nano-USD where there is a price; of many in the order of their ids."""
    small, large = Bounds(5, 7, 1_000), Bounds(50, 70, None)
    first = {"input_tokens": 5, "output_tokens": 7, "nano_usd": 1_000}
    second = {"input_tokens": 50, "output_tokens": 70, "nano_usd": None}

    assert _bounds_told(small) == first
    assert _bounds_told(small, large, small) == [first, second, first]
    assert _bounds_told(small, None) == [first, None]


def test_bounds_that_are_all_the_same_are_said_once() -> None:
    """A client in a loop must not fill the log with them; nor what was refused before it was read."""
    same = Bounds(5, 7, 1_000)

    assert _bounds_told(same, same, same) == _bounds_told(same)
    assert _bounds_told(None, None) == "nothing"


def test_the_largest_event_fits_its_topic_many_times() -> None:
    """Five hundred requests of which no two are alike."""
    tally = RefusalTally()
    for number in range(IDS_PER_EVENT):
        tally.add(_refused(bounds=Bounds(10**15 + number, 10**15, 2**53 - 1)))
    (event,) = tally.take()

    assert len(event.detail) < MAX_RECORD_BYTES / 64


@pytest.mark.parametrize(
    "other",
    [
        {"org": "other"},
        {"actor": "key_b"},
        {"code": "server_is_overloaded"},
        {"denial": None},
        {"model": "echo"},
        {"at_ms": 6_000},
    ],
    ids=lambda other: next(iter(other)),
)
def test_another_cause_or_second_is_another_event(other: dict[str, object]) -> None:
    """Each of its own organization, key, code, limit, model and second."""
    tally = RefusalTally()
    tally.add(_refused())
    tally.add(_refused(**other))

    assert len(tally.take()) == 2


def test_many_refusals_make_several_events_of_bounded_size() -> None:
    """Under different ids, so that none is taken for a copy."""
    tally = RefusalTally()
    for _ in range(2 * IDS_PER_EVENT + 1):
        tally.add(_refused())

    events = tally.take()

    assert len({event.audit_id for event in events}) == 3
    assert all(len(event.detail) < 20_000 for event in events)


def test_what_is_taken_is_gone() -> None:
    """Each refusal is told once."""
    tally = RefusalTally()
    tally.add(_refused())
    tally.take()

    assert tally.take() == []


def test_beyond_the_bound_refusals_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory of a flood is bounded; the event admits that it does not list them all."""
    monkeypatch.setattr(audit, "_IDS_MAX", 2)
    tally = RefusalTally()
    for _ in range(5):
        tally.add(_refused())

    (event,) = tally.take()

    detail = msgspec.json.decode(event.detail)
    assert (detail["count"], len(detail["request_ids"])) == (5, 2)
