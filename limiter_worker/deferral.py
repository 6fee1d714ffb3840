"""Whether and where a request waits for its limit, and how many may. Pure.

A tier is a topic whose records are not looked at for equally long. A request goes into the shortest
tier that is long enough, or the longest that still ends before its deadline. It is written there once:
after that it waits in memory, and is asked again from there until it is decided.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from limiter_worker.accepted import Accepted, Deferral
from limiter_worker.decisions import Rejection
from schemas.events import RequestAccepted
from schemas.topics import DEFERRED_DELAYS_MS

WAITERS_MAX = 32
"""Waiting requests per organization."""
ASK_AGAIN_MS = 1_000
"""Who waits in memory is asked again no earlier: a returning hold cannot be foreseen."""
_OVERDUE_MS = 60_000
"""Who has not come back so long after its time waits at another process, or nowhere."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Not now: produce this to the tier, and ask again once its time has come."""

    tier: str
    event: RequestAccepted
    deferral: Deferral
    code: str
    """What the client would have been told."""
    cost_bound_nano_usd: int | None = None
    """The most that the request can cost; ``None`` without a price."""


def wait_of(accepted: Accepted, refusal: Rejection, now_ms: int) -> Wait | None:
    """The wait instead of a refusal by a limit; ``None`` when the deadline comes before its end."""
    request, denial = accepted.request, refusal.outcome.denial
    assert denial is not None, "only limits can be waited for"
    tier = tier_of(denial.retry_after_ms or 0, request.deadline_ms - now_ms)
    if tier is None:
        return None
    not_before_ms = now_ms + DEFERRED_DELAYS_MS[tier]
    event = msgspec.structs.replace(request, not_before_ms=not_before_ms)
    deferral = Deferral(number=1, origin=accepted.ref, denial=denial)
    code = refusal.outcome.error_code or ""
    return Wait(tier, event, deferral, code, refusal.cost_bound_nano_usd)


def tier_of(retry_after_ms: int, left_ms: int) -> str | None:
    """The tier to wait in, with ``left_ms`` until the deadline; ``None`` when no wait helps."""
    if retry_after_ms >= left_ms:
        return None
    fitting = [tier for tier, delay_ms in DEFERRED_DELAYS_MS.items() if delay_ms < left_ms]
    enough = [tier for tier in fitting if DEFERRED_DELAYS_MS[tier] >= retry_after_ms]
    return next(iter(enough or fitting[-1:]), None)


def again_ms(accepted: Accepted, refusal: Rejection, now_ms: int) -> int | None:
    """When to ask again for a request whose record is in a tier already; ``None`` when its deadline
    comes first."""
    denial = refusal.outcome.denial
    assert denial is not None, "only limits can be waited for"
    due_ms = now_ms + max(denial.retry_after_ms or 0, ASK_AGAIN_MS)
    return due_ms if due_ms < accepted.request.deadline_ms else None


@dataclass(slots=True)
class WaitingCounts:
    """Counts who waits, per organization, as far as this process has heard of them.

    The topics are keyed by organization and assigned alike, so one process hears of all its
    waiters. A process that takes an organization over counts its waiters as it reads their records;
    until it has read them, up to ``WAITERS_MAX`` more may begin to wait.
    """

    _due_ms: dict[str, dict[str, int]] = field(default_factory=dict)
    """Organization to request id to the time until which it waits."""

    def enter(self, wait: Wait, now_ms: int) -> bool:
        """Whether there is room for the request; who waits already always has it."""
        request = wait.event
        waiting = self._due_ms.get(request.org, {})
        for req in [r for r, due_ms in waiting.items() if due_ms + _OVERDUE_MS < now_ms]:
            del waiting[req]
        if request.request_id not in waiting and len(waiting) >= WAITERS_MAX:
            return False
        self.note(request, request.not_before_ms or now_ms)
        return True

    def note(self, request: RequestAccepted, due_ms: int) -> None:
        """A record says that the request waits."""
        self._due_ms.setdefault(request.org, {})[request.request_id] = due_ms

    def leave(self, request: RequestAccepted) -> None:
        """The request is decided."""
        waiting = self._due_ms.get(request.org)
        if waiting is not None:
            waiting.pop(request.request_id, None)
            if not waiting:
                del self._due_ms[request.org]
