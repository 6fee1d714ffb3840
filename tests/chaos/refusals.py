"""Judges refusals for spent budgets by what backends logged: a 402 is right only where the money is gone. Pure.

What a request could cost at most is what the log says was put on hold for such requests; everything else
comes from the backends' own logs, the clients' history and the budgets as they were given.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tests.chaos.check import cost_nano_usd
from tests.chaos.evidence import Ceiling, ClientRequest, Evidence, Exchange
from tests.support.fakes.call_log import Call

SPENT = "402 BUDGET_EXCEEDED"


@dataclass(frozen=True)
class Clock:
    """What the machine's clock said (s) when the monotonic one, which clients are timed by, said 0."""

    epoch_s: float

    def monotonic_s(self, at_ms: int) -> float:
        """A time of a backend's log as the history has it."""
        return at_ms / 1_000 - self.epoch_s


def wrong_refusals(
    evidence: Evidence, ceilings: Iterable[Ceiling], worst_nano_usd: int, clock: Clock
) -> list[str]:
    """Each 402 that came while what was spent, what ran, and the worst case of one more fitted."""
    budgets = {each.org: each.limit for each in ceilings if each.unit == "nano_usd"}
    calls = _calls_of(evidence)
    written_off = {line.request_id for line in evidence.usage if line.estimated}
    found = []
    for client in evidence.clients:
        if client.org not in budgets:
            continue
        for exchange in (t for t in client.tries if t.result == SPENT):
            gone = _gone(calls[client.org], exchange, written_off, worst_nano_usd, clock)
            if gone + worst_nano_usd <= budgets[client.org]:
                left = budgets[client.org] - gone
                found.append(f"{exchange.request_id} of {client.org}: refused with {left} left")
    return found


def refusals_of(clients: Iterable[ClientRequest]) -> int:
    """How many refusals were judged, since none proves nothing."""
    return sum(t.result == SPENT for client in clients for t in client.tries)


def _calls_of(evidence: Evidence) -> Mapping[str, Sequence[Call]]:
    orgs = {request.request_id: request.org for request in evidence.accepted}
    calls: dict[str, list[Call]] = defaultdict(list)
    for call in evidence.calls:
        calls[orgs.get(call.start.request_id or "", "")].append(call)
    return calls


def _gone(
    calls: Sequence[Call],
    exchange: Exchange,
    written_off: set[str],
    worst_nano_usd: int,
    clock: Clock,
) -> int:
    """What was spent or may yet be, of calls that had begun when the refusal came."""
    gone = 0
    for call in calls:
        if clock.monotonic_s(call.start.at_ms) > exchange.ended_s:
            continue
        ended = call.end is not None and clock.monotonic_s(call.end.at_ms) <= exchange.ended_s
        is_known = ended and call.start.request_id not in written_off
        gone += cost_nano_usd(call) if is_known else worst_nano_usd
    return gone
