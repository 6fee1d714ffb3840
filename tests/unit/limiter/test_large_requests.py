from __future__ import annotations

import msgspec

from limiter_worker.accepted import Accepted, Deferral, accepted_of
from limiter_worker.decision_records import follow_up
from limiter_worker.deferral import Wait
from schemas.claim_check import EMBEDDED_BYTES_MAX, is_elsewhere
from schemas.codec import decode_as, encode
from schemas.events import Denial, RequestAccepted
from schemas.topics import DEFERRED_1S
from tests.support.events import ACCEPTED_AT, NOW_MS, accepted

_DENIAL = Denial(limit_id="x", limit_type="rate_limit", unit="requests", current_usage=1, limit=1)


def _taken(payload: bytes) -> Accepted:
    return accepted_of(encode(accepted(payload=payload)), {}, ACCEPTED_AT, NOW_MS)


def test_a_payload_of_64_kib_is_embedded_and_a_larger_one_is_not() -> None:
    embedded = _taken(b"x" * EMBEDDED_BYTES_MAX)
    assert decode_as(embedded.record, RequestAccepted).payload == b"x" * EMBEDDED_BYTES_MAX
    elsewhere = _taken(b"x" * (EMBEDDED_BYTES_MAX + 1))
    assert is_elsewhere(elsewhere.request)
    assert len(elsewhere.record) < 1_000


def test_a_deferred_large_request_comes_back_as_it_was_taken() -> None:
    large = _taken(b"x" * 100_000)
    waiting = msgspec.structs.replace(large.request, not_before_ms=NOW_MS + 1_000)
    deferral = Deferral(number=1, origin=large.ref, denial=_DENIAL)
    record = follow_up(large, Wait(DEFERRED_1S, waiting, deferral, "code"), {}, 3)
    assert len(record.value or b"") < 1_000
    again = accepted_of(record.value, dict(record.headers), ACCEPTED_AT, NOW_MS + 1_000)
    assert (again.request, again.record, again.ref) == (large.request, large.record, large.ref)
