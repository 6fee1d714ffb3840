"""What a module says in the log of its process: events of the one list, with fields.

Nothing is said of a request that succeeds. A level that is off costs one comparison.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final, Protocol, TypedDict, Unpack

from schemas.log_events import LogEvent, LogFields

__all__ = [
    "NAMESPACE",
    "EventLog",
    "Said",
    "of_request",
    "place_of",
    "text_of",
    "trace_id_of",
    "traced",
]

NAMESPACE: Final = "tallygate"
"""Our loggers are below this one; all others are foreign."""


class Place(TypedDict):
    """Where a record stands."""

    topic: str
    partition: int
    offset: int


class Traced(TypedDict, total=False):
    """Whose record it is, as far as its headers say so."""

    request_id: str
    trace_id: str


class Whose(Traced, total=False):
    """Whose request it is."""

    org: str


class _Request(Protocol):
    @property
    def request_id(self) -> str: ...
    @property
    def org(self) -> str: ...


class _Placed(Protocol):
    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...


class Said:
    """An event that happened, with its fields. As a text: the event, then each field.

    Nothing is made a text before it is written, where a text that cannot be made does no harm.
    """

    __slots__ = ("event", "fields")

    def __init__(self, event: LogEvent, fields: Mapping[str, object]) -> None:
        self.event = event
        self.fields = fields

    def __str__(self) -> str:
        fields = (f"{name}={text_of(value)}" for name, value in self.fields.items())
        return " ".join((self.event.name.lower(), *fields))


class EventLog:
    """The log, as one module writes to it."""

    __slots__ = ("_logger",)

    def __init__(self, module: str) -> None:
        self._logger = logging.getLogger(f"{NAMESPACE}.{module}")

    def event(
        self,
        event: LogEvent,
        *,
        error: BaseException | None = None,
        defect: BaseException | None = None,
        **fields: Unpack[LogFields],
    ) -> None:
        """Say it. An ``error`` was reckoned with and is one field; a ``defect`` has its traceback too."""
        level = event.value.level
        if not self._logger.isEnabledFor(level):
            return
        cause = error if defect is None else defect
        said: Mapping[str, object] = fields if cause is None else {**fields, "error": cause}
        self._logger.log(level, Said(event, said), exc_info=defect)


def text_of(value: object) -> object:
    """An exception as it says itself; anything else as it is."""
    return repr(value) if isinstance(value, BaseException) else value


def place_of(at: _Placed) -> Place:
    """Fields: where the record stands."""
    return {"topic": at.topic, "partition": at.partition, "offset": at.offset}


def of_request(request: _Request, headers: Mapping[str, bytes] | None = None) -> Whose:
    """Fields: the request and its organization, and its trace where the record's headers are at hand."""
    whose: Whose = {"request_id": request.request_id, "org": request.org}
    if trace_id := trace_id_of((headers or {}).get("traceparent")):
        whose["trace_id"] = trace_id
    return whose


def traced(headers: Mapping[str, bytes]) -> Traced:
    """Fields: the request and its trace, as far as a record's headers name them."""
    fields: Traced = {}
    if request_id := headers.get("request_id"):
        fields["request_id"] = request_id.decode(errors="replace")
    if trace_id := trace_id_of(headers.get("traceparent")):
        fields["trace_id"] = trace_id
    return fields


def trace_id_of(traceparent: bytes | None) -> str | None:
    """The id in a W3C ``traceparent``; ingress lets only well-formed ones into the log."""
    parts = (traceparent or b"").split(b"-")
    return parts[1].decode(errors="replace") if len(parts) > 1 else None
