"""Admissions without an outcome come back with what they held, and buckets as the last of them left them."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec

from accounting.rebuild.admissions import OpenAdmissions
from accounting.rebuild.attempts import attempt_of
from schemas.codec import encode
from schemas.events import RateStatus, RequestAccepted, RequestAdmitted
from schemas.hold_facts import HoldFacts
from schemas.ledger.documents import Charge, Lease
from schemas.ledger.rebuild_calls import RestoredRate
from schemas.ledger.shards import Shards
from schemas.outgoing import admitted_record
from tests.support.events import ACCEPTED_AT, NOW_MS, accepted, admitted
from tests.support.log_in_memory import LogInMemory

_SHARDS = Shards(4)
_SHARD = _SHARDS.of("acme")
_RATES = [
    RateStatus(id="key:requests_per_s", limit=10, remaining=9, reset_ms=100),
    RateStatus(id="org:tokens_per_min", limit=9_000, remaining=7_500, reset_ms=10_000),
]


def _admission(request: RequestAccepted | None = None, **more: Any) -> RequestAdmitted:
    request = request or accepted()
    fields: dict[str, Any] = {
        "leases": ["c:org"],
        "rates": _RATES,
        "rates_milli_per_s": [10_000, 150_000],
    }
    return admitted(request, encode(request), **(fields | more))


def _found(*admissions: tuple[RequestAdmitted, int], ended: set[object] | None = None) -> Any:
    """What is open a second after now; each admission with the time when it was appended."""
    found = OpenAdmissions(_SHARDS, {_SHARD: ended or set()}, NOW_MS + 1_000)
    log = LogInMemory()
    for admission, at_ms in admissions:
        deadline_ms = msgspec.json.encode(NOW_MS + 60_000)
        more = {
            "request_id": admission.request_id.encode(),
            "deadline_ms": deadline_ms,
        }
        log.append(admitted_record(admission, _SHARDS.of(admission.org), more), 0, at_ms)
    for records in log.partitions.values():
        for record in records:
            found.take(record)
    return found


def test_an_admission_holds_what_it_held() -> None:
    """Balances, leases, charges and facts, as admission gave them to the ledger."""
    attempt = attempt_of(_admission())
    assert [(b.unit, b.amount) for b in attempt.balances] == [
        ("nano_usd", 5_000_000), ("tokens", 1_500), ("requests", 1)
    ]  # fmt: skip
    assert attempt.leases == (Lease(key="c:org"),)
    assert attempt.rates == (
        Charge(key="r:key/key_a/requests", cost=1, rate_milli_per_s=10_000),
        Charge(key="r:org/tokens", cost=1_500, rate_milli_per_s=150_000),
    )
    assert attempt.incarnation_ms == accepted().produce_by_ms
    assert HoldFacts.decoded(attempt.info).parent == ACCEPTED_AT


def test_an_admission_of_an_older_version_has_no_charges() -> None:
    """It does not say how its buckets are refilled."""
    attempt = attempt_of(_admission(rates_milli_per_s=None, leases=None))
    assert attempt.rates == ()
    assert attempt.leases == ()


def test_who_has_an_outcome_holds_nothing() -> None:
    """Nor who is past the deadline, or of another shard."""
    admission = _admission()
    assert len(_found((admission, NOW_MS)).of(_SHARD)[0]) == 1
    assert not _found((admission, NOW_MS), ended={admission.request_id}).of(_SHARD)[0]
    late = _admission(accepted(deadline_ms=NOW_MS))
    assert not _found((late, NOW_MS)).of(_SHARD)[0]
    other = next(f"o{n}" for n in range(99) if _SHARDS.of(f"o{n}") != _SHARD)
    foreign = _found((_admission(accepted(org=other), org=other), NOW_MS))
    assert not foreign.of(_SHARD)[0]


def test_buckets_are_as_the_last_admission_left_them() -> None:
    """Of those that are not full by now."""
    earlier = _admission(rates=[_RATES[0], msgspec.structs.replace(_RATES[1], reset_ms=50_000)])
    last = _admission(accepted(request_id="018bcfe5-6800-7000-8000-000000000002"))
    last = msgspec.structs.replace(last, request_id="018bcfe5-6800-7000-8000-000000000002")
    _, rates = _found((earlier, NOW_MS), (last, NOW_MS + 500)).of(_SHARD)
    until_us = (NOW_MS + 500 + 10_000) * 1_000
    assert rates == [RestoredRate(org="acme", key="r:org/tokens", until_us=until_us)]


def test_an_admission_without_headers_is_read() -> None:
    """Versions before this one did not name the shard; bytes that are none of ours run nowhere."""
    found = OpenAdmissions(_SHARDS, {_SHARD: set()}, NOW_MS)
    log = LogInMemory()
    record = admitted_record(_admission(), _SHARD, {})
    record = dataclasses.replace(record, headers=())
    log.append(dataclasses.replace(record, value=b"x"), 0, NOW_MS)
    log.append(record, 0, NOW_MS)
    (records,) = log.partitions.values()
    for each in records:
        found.take(each)
    assert len(found.of(_SHARD)[0]) == 1
