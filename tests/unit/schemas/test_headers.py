"""Record headers: CloudEvents, and what a path's records carry on."""

from __future__ import annotations

from schemas.headers import ACCEPTED, event_headers, passed_on


def test_a_record_says_what_it_is() -> None:
    """CloudEvents binary mode; the same event gives the same headers."""
    headers = event_headers(
        ACCEPTED, ACCEPTED.id_of("r1"), "ingress", 1_700_000_000_123, {"request_id": b"r1"}
    )

    assert headers == [
        ("ce_specversion", b"1.0"),
        ("ce_type", b"dev.tallygate.request.accepted.v1"),
        ("ce_source", b"/tallygate/ingress"),
        ("ce_id", b"r1:accepted"),
        ("ce_time", b"2023-11-14T22:13:20.123Z"),
        ("content-type", b"application/avro"),
        ("request_id", b"r1"),
    ]


def test_only_the_headers_of_the_path_are_passed_on() -> None:
    """An event's own identity stays with it."""
    incoming = {"ce_id": b"x", "request_id": b"r1", "deadline_ms": b"5", "traceparent": b"00-1"}

    assert passed_on(incoming) == {
        "request_id": b"r1",
        "deadline_ms": b"5",
        "traceparent": b"00-1",
    }
    assert passed_on({}) == {}
