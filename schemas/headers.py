"""Headers of records: CloudEvents in binary mode, plus what routing needs without decoding.

Source: CloudEvents 1.0 Kafka protocol binding. ``ce_id`` is deterministic, so that consumers may
deduplicate by (source, id).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

__all__ = ["event_headers", "passed_on"]

_PASSED_ON: Final = ("request_id", "deadline_ms", "traceparent")
_SPEC_VERSION: Final = b"1.0"
_CONTENT_TYPE: Final = b"application/avro"


def event_headers(
    event: str, event_id: str, source: str, at_ms: int, more: Mapping[str, bytes] | None = None
) -> list[tuple[str, bytes]]:
    """Headers of a record of type ``event`` (such as ``request.accepted``), made at ``at_ms``."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
    headers = [
        ("ce_specversion", _SPEC_VERSION),
        ("ce_type", f"dev.tallygate.{event}.v1".encode()),
        ("ce_source", f"/tallygate/{source}".encode()),
        ("ce_id", event_id.encode()),
        ("ce_time", at.encode()),
        ("content-type", _CONTENT_TYPE),
    ]
    headers.extend((more or {}).items())
    return headers


def passed_on(headers: Mapping[str, bytes]) -> dict[str, bytes]:
    """The headers that every record of a request's path carries on."""
    return {name: headers[name] for name in _PASSED_ON if name in headers}
