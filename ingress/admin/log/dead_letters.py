"""Dead letters as administrators see them, and the record that a retry makes of one.

Invariant: a retry has the original bytes, key and headers; only the count of its attempts is new.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NotRequired, TypedDict

import msgspec
from aiokafka import ConsumerRecord, TopicPartition

from schemas.codec import UNDECODABLE, decode
from schemas.outgoing import Outgoing
from schemas.topics import OUTCOMES, TOPICS, dead_letters_of

_REASON_PREFIX: Final = "__connect.errors."
_ATTEMPTS: Final = "x-dlq-attempts"
_DEADLINE: Final = "deadline_ms"
_HEX_BYTES_MAX: Final = 4_096
_DIGITS_MAX: Final = 18
_LETTER_ID: Final = re.compile(r"(?P<topic>.+)-(?P<partition>[0-9]{1,6})@(?P<offset>[0-9]{1,18})")

DEAD_LETTER_TOPICS: Final[Mapping[str, str]] = {
    dead_letters_of(topic.name): topic.name for topic in TOPICS if topic.has_dead_letters
}
"""Topic of dead letters to the topic its letters were read from."""


@dataclass(frozen=True, slots=True)
class LetterId:
    """Where a dead letter stands; in text ``<topic>-<partition>@<offset>``."""

    partition: TopicPartition
    offset: int


class LetterSummary(TypedDict):
    """A dead letter in a list: its id, when it was buried, and why."""

    id: str
    at_ms: int
    key: str | None
    request_id: str | None
    stage: str | None
    error: str | None
    message: str | None
    attempts: int
    bytes: int


class LetterDetail(LetterSummary):
    """A whole dead letter: decoded, or as hexadecimal text with why it could not be."""

    reason: dict[str, str]
    headers: dict[str, str]
    type: NotRequired[str]
    value: NotRequired[dict[str, Any]]
    malformed: NotRequired[str]
    hex: NotRequired[str]
    is_cut: NotRequired[bool]
    retried_at_ms: int | None


def parse_id(text: str) -> LetterId | None:
    """The id in the text; ``None`` when it is none, or of a topic without dead letters."""
    match = _LETTER_ID.fullmatch(text)
    if match is None or match["topic"] not in DEAD_LETTER_TOPICS:
        return None
    partition = TopicPartition(match["topic"], int(match["partition"]))
    return LetterId(partition, int(match["offset"]))


def id_of(letter: ConsumerRecord) -> str:
    """The letter's id in text."""
    return f"{letter.topic}-{letter.partition}@{letter.offset}"


def summary(letter: ConsumerRecord) -> LetterSummary:
    """The letter in a list: its id, when it was buried, and why."""
    headers = _headers(letter)
    reason = _reason(headers)
    request_id = headers.get("request_id")
    return {
        "id": id_of(letter),
        "at_ms": letter.timestamp,
        "key": None if letter.key is None else _text(letter.key),
        "request_id": None if request_id is None else _text(request_id),
        "stage": reason.get("stage"),
        "error": reason.get("exception.class.name"),
        "message": reason.get("exception.message"),
        "attempts": _attempts(headers),
        "bytes": len(letter.value or b""),
    }


def detail(letter: ConsumerRecord, *, with_payload: bool) -> dict[str, Any]:
    """The whole letter: its reason, its other headers, and its value decoded or as hex."""
    headers = _headers(letter)
    return {
        **summary(letter),
        "reason": _reason(headers),
        "headers": {n: _text(v) for n, v in headers.items() if not n.startswith(_REASON_PREFIX)},
        **_value(letter.value, with_payload=with_payload),
    }


def retry_of(letter: ConsumerRecord) -> Outgoing:
    """The record that a retry appends to the original topic."""
    headers = [
        (name, value or b"")
        for name, value in letter.headers
        if not name.startswith(_REASON_PREFIX) and name != _ATTEMPTS
    ]
    attempts = str(_attempts(_headers(letter)) + 1).encode()
    return Outgoing(
        topic=DEAD_LETTER_TOPICS[letter.topic],
        key=letter.key or b"",
        value=letter.value,
        headers=[*headers, (_ATTEMPTS, attempts)],
    )


def can_only_expire(letter: ConsumerRecord, now_ms: int) -> bool:
    """Whether it is a request whose deadline passed: whoever reads it again ends it as expired, if it has
    no end yet. An outcome is booked however old it is."""
    deadline_ms = _number(_headers(letter).get(_DEADLINE, b""))
    is_outcome = DEAD_LETTER_TOPICS[letter.topic] == OUTCOMES
    return not is_outcome and deadline_ms is not None and now_ms >= deadline_ms


def _reason(headers: Mapping[str, bytes]) -> dict[str, str]:
    return {
        name.removeprefix(_REASON_PREFIX): _text(value)
        for name, value in headers.items()
        if name.startswith(_REASON_PREFIX)
    }


def _attempts(headers: Mapping[str, bytes]) -> int:
    """How often it was retried; anybody can write headers, so nonsense counts as never."""
    return _number(headers.get(_ATTEMPTS, b"")) or 0


def _headers(letter: ConsumerRecord) -> dict[str, bytes]:
    """Headers by name; Kafka lets a value be absent."""
    return {name: value or b"" for name, value in letter.headers}


def _number(text: bytes) -> int | None:
    return int(text) if text.isdigit() and len(text) <= _DIGITS_MAX else None


def _value(value: bytes | None, *, with_payload: bool) -> dict[str, Any]:
    try:
        event = decode(value)
    except UNDECODABLE as error:
        raw = value or b""
        shown = {"malformed": str(error), "hex": raw[:_HEX_BYTES_MAX].hex()}
        return shown | {"is_cut": len(raw) > _HEX_BYTES_MAX}
    fields = msgspec.to_builtins(event, builtin_types=(bytes,))
    values = {name: _shown(v, with_payload=with_payload) for name, v in fields.items()}
    return {"type": type(event).__name__, "value": values}


def _shown(value: Any, *, with_payload: bool) -> Any:
    """A field; bytes hold prompts or answers, which are told by their size."""
    if not isinstance(value, bytes):
        return value
    return _text(value) if with_payload else f"({len(value)} bytes)"


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace")
