"""A request as the limiter takes it from a record: fresh from ingress, or back from a wait. Pure.

Whatever a request went through, it is judged as it was accepted: the same event, the same bytes, the
place of its first record.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from schemas.claim_check import crosses_once, without_payload
from schemas.codec import MalformedRecord, decode_as, encode
from schemas.events import Denial, RecordRef, RequestAccepted

DEFERRAL_HEADER = "deferral"


class Deferral(msgspec.Struct, frozen=True, kw_only=True):
    """What a waiting request carries along in the header of its record."""

    number: int
    """How often it has been written to a tier."""
    origin: RecordRef
    """Where it was accepted."""
    denial: Denial
    """The limit that stood against it."""

    def encoded(self) -> bytes:
        """As it stands in the header."""
        return msgspec.json.encode(self)


class Accepted(msgspec.Struct, frozen=True):
    """A decoded request and where its record stands."""

    request: RequestAccepted
    record: bytes
    """The bytes that ingress produced, without a large payload."""
    ref: RecordRef
    """Where ingress produced them."""
    appended_at_ms: int
    """When the record that was read last was appended."""
    deferral: Deferral | None = None
    not_before_ms: int = 0
    waited_at: RecordRef | None = None
    """Where the record stands that was read last, if the request waited for its turn."""

    @property
    def parents(self) -> list[RecordRef]:
        """The records that its end follows from, oldest first: copies of a deferred one end each at its own time."""
        return [self.ref] if self.waited_at is None else [self.ref, self.waited_at]


def accepted_of(
    value: bytes | None, headers: Mapping[str, bytes], ref: RecordRef, appended_at_ms: int
) -> Accepted:
    """The request in a record of the requests topic or of a deferred one; a large one goes on
    without its payload, which stays where it was accepted.

    Raises ``MalformedRecord``.
    """
    request = decode_as(value, RequestAccepted)
    if request.not_before_ms is None:
        if not crosses_once(request):
            return Accepted(request, value or b"", ref, appended_at_ms)
        bare = without_payload(request)
        return Accepted(bare, encode(bare), ref, appended_at_ms)
    try:
        deferral = msgspec.json.decode(headers.get(DEFERRAL_HEADER, b""), type=Deferral)
    except msgspec.DecodeError as error:
        raise MalformedRecord(f"a deferred request without its {DEFERRAL_HEADER}") from error
    original = msgspec.structs.replace(request, not_before_ms=None)
    return Accepted(
        original,
        encode(original),
        deferral.origin,
        appended_at_ms,
        deferral,
        request.not_before_ms,
        waited_at=ref,
    )
