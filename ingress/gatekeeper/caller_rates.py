"""Tells callers what is left of their rates in answers that no worker reported it for.

A worker reports a caller's buckets with what it answers. They are remembered here, and an answer that comes from elsewhere
(a list, a look-up, a refusal of ingress, a kept result) tells them as they have filled since. Of a caller of whom this
process heard nothing, the buckets are full as far as it knows. What is told is a hint: only the ledger decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from ingress.apis.answer_format import rate_headers
from ingress.auth.caller import Caller
from ingress.http.refusals import Headers
from schemas.config_state import Snapshot
from schemas.events import RateStatus
from schemas.stated_limits import Defaults, limit_scopes, rates_of

_MS_PER_S: Final = 1_000


@dataclass(slots=True)
class CallerRates:
    """What workers said of each caller's rates, and when (monotonic)."""

    config: Callable[[], Snapshot]
    default: Defaults
    now_s: Callable[[], float]
    heard: dict[tuple[str, str], tuple[float, tuple[RateStatus, ...]]] = field(default_factory=dict)
    """By organization and key. Whoever answers what a worker told notes that, and keeps it bounded."""

    def headers(self, caller: Caller, said: Iterable[tuple[bytes, bytes]]) -> Headers:
        """The headers of its rates, without those that the answer has already."""
        names = {name for name, _ in said}
        return [each for each in rate_headers(self._now(caller)) if each[0] not in names]

    def _now(self, caller: Caller) -> tuple[RateStatus, ...]:
        """Each rate that is in force for it, as it should stand now."""
        config = self.config()
        if caller.org not in config.organizations:
            return ()
        at_s, rates = self.heard.get(_who(caller), (0.0, ()))
        passed_ms = (self.now_s() - at_s) * _MS_PER_S
        heard = {rate.id: filled(rate, passed_ms) for rate in rates}
        scopes = limit_scopes(caller.org, caller.project, caller.key_id, caller.user, config)
        return tuple(
            _known(heard, rate.id, rate.burst)
            for scope in scopes
            for rate in rates_of(scope, self.default, 0, [])
        )


def filled(rate: RateStatus, passed_ms: float) -> RateStatus:
    """A bucket so many milliseconds later, if nothing more was taken from it."""
    left_ms = max(0.0, rate.reset_ms - passed_ms)
    lacking = rate.limit - rate.remaining
    still = round(lacking * left_ms / rate.reset_ms) if rate.reset_ms > 0 else 0
    return msgspec.structs.replace(rate, remaining=rate.limit - still, reset_ms=round(left_ms))


def _known(heard: Mapping[str, RateStatus], rate_id: str, burst: int) -> RateStatus:
    """What was heard of a rate, unless its limit has changed since; else that it is full."""
    known = heard.get(rate_id)
    if known is not None and known.limit == burst:
        return known
    return RateStatus(id=rate_id, limit=burst, remaining=burst, reset_ms=0)


def _who(caller: Caller) -> tuple[str, str]:
    return caller.org, caller.alias or caller.key_id
