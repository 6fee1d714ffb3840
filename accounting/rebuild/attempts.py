"""What admissions without an outcome hold, and how empty they left the buckets: from the log. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from schemas.codec import decode_as
from schemas.events import Hold, RequestAccepted, RequestAdmitted
from schemas.hold_facts import info_of
from schemas.ledger import keys
from schemas.ledger.documents import Balance, Charge, Lease, RestoredRequest
from schemas.ledger.rebuild_calls import RestoredRate

__all__ = ["Buckets", "attempt_of"]


def attempt_of(admitted: RequestAdmitted) -> RestoredRequest:
    """What the admission holds. Raises ``MalformedRecord``."""
    accepted = decode_as(admitted.accepted, RequestAccepted)
    return RestoredRequest(
        org=admitted.org,
        req=admitted.request_id,
        deadline_ms=accepted.deadline_ms,
        accepted_ms=accepted.accepted_at_ms,
        incarnation_ms=accepted.produce_by_ms,
        info=info_of(accepted, admitted.accepted_ref).encoded(),
        balances=tuple(map(_hold, admitted.holds)),
        leases=tuple(Lease(key=key) for key in admitted.leases or ()),
        rates=tuple(rate for _, rate in _charges(admitted, accepted)),
    )


@dataclass(slots=True)
class Buckets:
    """The buckets as the latest admission that charged each left it."""

    _latest: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    """By organization and bucket: when it was charged last, and when it is full, in ms."""

    def note(self, admitted: RequestAdmitted, appended_ms: int) -> None:
        """The admission was appended then, which is not before it was decided."""
        accepted = decode_as(admitted.accepted, RequestAccepted)
        for reset_ms, rate in _charges(admitted, accepted):
            bucket = admitted.org, rate.key
            if appended_ms >= self._latest.get(bucket, (0, 0))[0]:
                self._latest[bucket] = appended_ms, appended_ms + reset_ms

    def rates(self, now_ms: int) -> list[RestoredRate]:
        """Those that are not full by now."""
        return [
            RestoredRate(org=org, key=key, until_us=until_ms * 1_000)
            for (org, key), (_, until_ms) in self._latest.items()
            if until_ms > now_ms
        ]


def _hold(hold: Hold) -> Balance:
    return Balance(
        key=hold.key,
        unit=hold.unit,  # type: ignore[arg-type]  # as admission wrote it
        amount=hold.amount,
        start_ms=hold.start_ms,
        end_ms=hold.end_ms or None,
    )


def _charges(admitted: RequestAdmitted, accepted: RequestAccepted) -> Iterator[tuple[int, Charge]]:
    """What each bucket was charged, and how long it takes until it is full again."""
    flows = admitted.rates_milli_per_s
    if flows is None:
        return
    for status, flow in zip(admitted.rates or (), flows, strict=False):
        scope_name, _, kind = status.id.partition(":")
        scope = _scope_key(scope_name, accepted)
        if scope is None:
            continue
        is_tokens = kind == "tokens_per_min"
        tokens = accepted.input_tokens_bound + accepted.output_tokens_bound
        suffix = keys.token_rate_suffix(scope) if is_tokens else keys.request_rate_suffix(scope)
        cost = tokens if is_tokens else 1
        yield status.reset_ms, Charge(key=suffix, cost=cost, rate_milli_per_s=flow)


def _scope_key(name: str, accepted: RequestAccepted) -> str | None:
    match name:
        case "org":
            return keys.ORG_SCOPE
        case "project" if accepted.project is not None:
            return keys.scope("project", accepted.project)
        case "key":
            return keys.scope("key", accepted.key_id)
        case "user" if accepted.user is not None:
            return keys.scope("user", accepted.user)
        case _:
            return None
