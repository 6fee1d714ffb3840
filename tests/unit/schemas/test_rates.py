"""The buckets of an admission are read from records of every version."""

from __future__ import annotations

import msgspec

from schemas.codec import decode, decode_as, encode
from schemas.events import RateStatus, RequestAdmitted
from schemas.rates import rates_of
from tests.support.events import accepted, admitted

_RATE = RateStatus(id="org:requests_per_s", limit=200, remaining=199, reset_ms=10)


def test_a_record_has_its_buckets_as_values() -> None:
    """What the limiter wrote is what the dispatcher reads."""
    record = encode(msgspec.structs.replace(admitted(accepted()), rates=[_RATE]))

    assert rates_of(decode_as(record, RequestAdmitted)) == (_RATE,)


def test_a_record_without_buckets_has_none() -> None:
    """No limit of rate stood on the request."""
    assert rates_of(decode_as(encode(admitted(accepted())), RequestAdmitted)) == ()


def test_a_record_of_an_earlier_version_has_its_buckets_as_text() -> None:
    """As the limiter wrote it then; such records wait in the log while the processes are replaced."""
    text = '[{"id":"org:requests_per_s","limit":200,"remaining":199,"reset_ms":10}]'
    event = msgspec.structs.replace(admitted(accepted()), rate_status=text, rates=None)

    assert decode(encode(event)) == event
    assert rates_of(event) == (_RATE,)
