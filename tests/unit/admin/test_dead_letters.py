"""Dead letters as shown, and the record that a retry makes."""

from __future__ import annotations

import dataclasses

import pytest
from aiokafka import ConsumerRecord, TopicPartition

from ingress.admin.log.dead_letters import (
    LetterId,
    can_only_expire,
    detail,
    id_of,
    parse_id,
    retry_of,
    summary,
)
from schemas.codec import encode
from schemas.topics import OUTCOMES, REQUESTS, dead_letters_of
from tests.support.events import NOW_MS, accepted

TOPIC = "inference.requests.v1.dlq"
REASON = (
    ("__connect.errors.topic", b"inference.requests.v1"),
    ("__connect.errors.partition", b"2"),
    ("__connect.errors.stage", b"decode"),
    ("__connect.errors.exception.class.name", b"MalformedRecord"),
    ("__connect.errors.exception.message", b"not published"),
)


def letter(value: bytes | None = b"\xff", *more: tuple[str, bytes]) -> ConsumerRecord:
    headers = (("request_id", b"r1"), *more, *REASON)
    return ConsumerRecord(TOPIC, 2, 14, NOW_MS, 1, b"acme", value, None, 0, 0, headers)


def test_an_id_names_the_place_of_the_letter() -> None:
    """It can be read back."""
    assert id_of(letter()) == f"{TOPIC}-2@14"
    assert parse_id(f"{TOPIC}-2@14") == LetterId(TopicPartition(TOPIC, 2), 14)


@pytest.mark.parametrize("text", ["", "x", f"{REQUESTS}-2@14", f"{TOPIC}-2", f"{TOPIC}-a@1"])
def test_only_places_in_dead_letter_topics_are_ids(text: str) -> None:
    """A retry must not repeat a record that was handled."""
    assert parse_id(text) is None


def test_a_list_says_why_each_letter_is_there() -> None:
    """Stage, error and message, as the worker left them."""
    row = summary(letter())

    assert (row["stage"], row["error"]) == ("decode", "MalformedRecord")
    assert (row["message"], row["request_id"], row["attempts"]) == ("not published", "r1", 0)


def test_a_retry_is_the_original_with_its_attempts_counted() -> None:
    """Bytes, key and headers as they were; the reason goes."""
    record = retry_of(letter(b"\x00\xffbytes", ("x-dlq-attempts", b"2")))

    assert (record.topic, record.key, record.value) == (REQUESTS, b"acme", b"\x00\xffbytes")
    assert list(record.headers) == [("request_id", b"r1"), ("x-dlq-attempts", b"3")]


def test_what_cannot_be_decoded_is_shown_as_hex() -> None:
    """With the decoder's reason."""
    shown = detail(letter(b"\xff\x00"), with_payload=False)

    assert (shown["hex"], shown["is_cut"]) == ("ff00", False)
    assert shown["malformed"]
    assert shown["headers"] == {"request_id": "r1"}


def test_what_can_be_decoded_is_shown_without_its_texts() -> None:
    """Prompts only on demand."""
    value = encode(accepted())

    without = detail(letter(value), with_payload=False)
    with_payload = detail(letter(value), with_payload=True)

    assert without["type"] == "RequestAccepted"
    assert "hello" not in str(without)
    assert without["value"]["payload"] == f"({len(accepted().payload)} bytes)"
    assert "hello" in with_payload["value"]["payload"]


@pytest.mark.parametrize(
    ("deadline", "expected"),
    [(NOW_MS, True), (NOW_MS + 1, False), (None, False)],
)
def test_a_request_whose_deadline_passed_can_only_expire(
    deadline: int | None, expected: bool
) -> None:
    """Whoever retries it is told; an outcome is booked however old it is."""
    headers = () if deadline is None else (("deadline_ms", b"%d" % deadline),)

    assert can_only_expire(letter(b"", *headers), NOW_MS) is expected
    outcome = dataclasses.replace(letter(b"", *headers), topic=dead_letters_of(OUTCOMES))
    assert can_only_expire(outcome, NOW_MS) is False


@pytest.mark.parametrize("value", [None, b"", b"9" * 5_000, b"\xff", b"-1", b"1e3"])
def test_headers_that_anybody_could_have_written_break_nothing(value: bytes | None) -> None:
    """Kafka takes any bytes as a header, and none at all."""
    odd = letter(None, ("x-dlq-attempts", value), ("deadline_ms", value), ("request_id", value))  # type: ignore[arg-type]

    assert detail(odd, with_payload=True)["attempts"] == 0
    assert dict(retry_of(odd).headers)["x-dlq-attempts"] == b"1"
    assert can_only_expire(odd, NOW_MS) is False
