"""Judges a run: nothing lost, doubled or miscounted, whatever was killed. Pure.

Invariant: every backend call has its usage line and every line its call. A call that a kill cut off
may stand in the books as an estimate; those are listed, since the books cannot know better.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from operator import eq
from typing import Any, TypeVar

from tests.chaos.evidence import (
    OK,
    AcceptedRequest,
    ClientRequest,
    Evidence,
    Exchange,
    Outcome,
    Unit,
    UsageLine,
)
from tests.support.fakes.call_log import Call, most_at_once

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)

INPUT_NANO_USD_PER_TOKEN = 500
OUTPUT_NANO_USD_PER_TOKEN = 1_500


@dataclass(frozen=True)
class Findings:
    """Request ids, or sentences that begin with them, by what is wrong with them."""

    lost: tuple[str, ...]
    """Accepted, and without an outcome."""
    contradicted: tuple[str, ...]
    """Outcomes or usage lines of one id that differ."""
    unbilled: tuple[str, ...]
    """A backend call or a recorded attempt without a usage line."""
    doubled: tuple[str, ...]
    """A usage line for which there was no call, or a key under which two requests succeeded."""
    misinformed: tuple[str, ...]
    """A client was given another text, cost or success than the backend and the books have."""
    unreleased: tuple[str, ...]
    """Holds that outlived their requests, and sums that differ."""
    overspent: tuple[str, ...]
    """Limits that were passed: in the ledger at a look, or by what the backends worked off."""
    estimated: tuple[str, ...]
    """Usage lines that are estimates: no defect by themselves."""
    restated: tuple[str, ...]
    """Ends without an attempt that were written again, with the same decision, for another record of
    the request: a client's second try under its id, or a copy. No defect by themselves."""

    @property
    def is_clean(self) -> bool:
        return not any(
            (
                self.lost,
                self.contradicted,
                self.unbilled,
                self.doubled,
                self.misinformed,
                self.unreleased,
                self.overspent,
            )
        )


def check(evidence: Evidence) -> Findings:
    """All checks over one run that came to rest."""
    effective, differing = _first_of(evidence.outcomes, lambda o: o.request_id, _is_same)
    contradicted = [_told(*pair) for pair in differing if not _is_restated(*pair)]
    lines_by_id, contradicted_lines = _first_of(evidence.usage, lambda line: line.usage_id)
    lines = _grouped(lines_by_id.values(), lambda line: line.request_id)
    calls = _grouped(evidence.calls, lambda call: call.start.request_id or "")
    unbilled, doubled, estimated = _match_all(calls, lines)
    unbilled += _unwritten_attempts(effective.values(), lines_by_id.keys())
    if evidence.keys_are_honoured:
        doubled += _executed_twice(evidence.accepted, effective)
    return Findings(
        lost=tuple(_lost(evidence, effective.keys())),
        contradicted=(*contradicted, *(_told(*pair) for pair in contradicted_lines)),
        unbilled=tuple(unbilled),
        doubled=tuple(doubled),
        misinformed=tuple(_misinformed(evidence.clients, effective, lines, calls)),
        unreleased=tuple(_unreleased(evidence)),
        overspent=(*evidence.breaches, *_overspent(evidence)),
        estimated=tuple(estimated),
        restated=tuple(last.request_id for last, first in differing if _is_restated(last, first)),
    )


def longest_gap_s(clients: Iterable[ClientRequest], from_s: float, to_s: float) -> float:
    """The longest time between two successful answers, or without any, within the span."""
    times = sorted(
        exchange.ended_s
        for client in clients
        for exchange in client.tries
        if exchange.result == OK and from_s <= exchange.ended_s <= to_s
    )
    marks = [from_s, *times, to_s]
    return max(later - earlier for earlier, later in pairwise(marks))


def cost_nano_usd(call: Call) -> int:
    """What a call costs at the price of the run's model; exact, without rounding."""
    return (
        call.prompt_tokens * INPUT_NANO_USD_PER_TOKEN
        + call.completion_tokens * OUTPUT_NANO_USD_PER_TOKEN
    )


def _lost(evidence: Evidence, ended: Iterable[str]) -> list[str]:
    """What the log of requests has, what was answered with success and every promised job must end."""
    known = set(ended)
    promised = {request.request_id for request in evidence.accepted}
    promised |= {client.promised for client in evidence.clients if client.promised}
    for client in evidence.clients:
        promised |= {t.request_id for t in client.tries if t.result == OK and t.request_id}
    return sorted(promised - known)


def _match_all(
    calls: dict[str, list[Call]], lines: dict[str, list[UsageLine]]
) -> tuple[list[str], list[str], list[str]]:
    unbilled: list[str] = []
    doubled: list[str] = []
    estimated: list[str] = []
    for request_id in sorted(calls.keys() | lines.keys()):
        ours = [line for line in lines[request_id] if not line.estimated]
        guessed = [line for line in lines[request_id] if line.estimated]
        spent = Counter(_amounts(call) for call in calls[request_id])
        booked = Counter(line.amounts for line in ours)
        # A try that reached no backend has a line of nothing.
        invented = [amounts for amounts in (booked - spent).elements() if any(amounts)]
        unmatched = list((spent - booked).elements())
        doubled += [f"{request_id}: {amounts} booked, not spent" for amounts in invented]
        if len(unmatched) > len(guessed):
            unbilled.append(f"{request_id}: {unmatched} spent, {len(guessed)} estimates")
        estimated += [
            f"{request_id}: {line.amounts} as {line.status}, unmatched calls {unmatched}"
            for line in guessed
        ]
    return unbilled, doubled, estimated


def _unwritten_attempts(outcomes: Iterable[Outcome], usage_ids: Iterable[str]) -> list[str]:
    written = set(usage_ids)
    wanted = [f"{o.request_id}:{attempt}:0" for o in outcomes for attempt in o.attempts]
    return [usage_id for usage_id in wanted if usage_id not in written]


def _executed_twice(
    accepted: Iterable[AcceptedRequest], effective: dict[str, Outcome]
) -> list[str]:
    completed: dict[str, set[str]] = defaultdict(set)
    for request in accepted:
        outcome = effective.get(request.request_id)
        if outcome is not None and outcome.status == "completed":
            completed[request.marker].add(request.request_id)
    return [f"{marker}: {sorted(ids)}" for marker, ids in completed.items() if len(ids) > 1]


def _misinformed(
    clients: Iterable[ClientRequest],
    effective: dict[str, Outcome],
    lines: dict[str, list[UsageLine]],
    calls: dict[str, list[Call]],
) -> list[str]:
    found: list[str] = []
    for exchange in (t for client in clients for t in client.tries if t.result == OK):
        request_id = exchange.request_id
        if request_id is None:
            found.append("an answer without a request id")
        elif request_id in effective:
            problems = _contradictions(
                exchange, effective[request_id], lines[request_id], calls[request_id]
            )
            found += [f"{request_id}: {problem}" for problem in problems]
    return found + _refused_and_done(clients, effective)


def _refused_and_done(clients: Iterable[ClientRequest], effective: dict[str, Outcome]) -> list[str]:
    """A limit's refusal is final for its id, whatever is delivered again afterwards."""
    done = {
        request_id for request_id, outcome in effective.items() if outcome.status == "completed"
    }
    return [
        f"{exchange.request_id}: told {exchange.result}, but it completed"
        for exchange in (t for client in clients for t in client.tries)
        if exchange.result.startswith(("402 ", "429 ")) and exchange.request_id in done
    ]


def _contradictions(
    exchange: Exchange, outcome: Outcome, lines: Sequence[UsageLine], calls: Sequence[Call]
) -> list[str]:
    said = {call.end.text_sha256 for call in calls if call.end}
    booked = sum(line.cost_nano_usd or 0 for line in lines)
    wrong = {
        f"answered, but its outcome is {outcome.status}": outcome.status != "completed",
        "the text is no backend's": exchange.text_sha256 not in {None, *said},
        f"told {exchange.cost_nano_usd}, booked {booked}": exchange.cost_nano_usd
        not in (None, booked),
    }
    return [problem for problem, holds in wrong.items() if holds]


def _unreleased(evidence: Evidence) -> list[str]:
    held = [f"{key} holds {amount}" for key, amount in evidence.ledger.held.items() if amount]
    if evidence.ledger.difference:
        held.append(f"ledger and log differ by {evidence.ledger.difference}")
        held += evidence.ledger.differences
    return held


def _overspent(evidence: Evidence) -> list[str]:
    """What the backends worked off for an organization, against what it was allowed in the end."""
    orgs = {request.request_id: request.org for request in evidence.accepted}
    calls = _grouped(evidence.calls, lambda call: orgs.get(call.start.request_id or "", ""))
    used = [(ceiling, _used(calls[ceiling.org], ceiling.unit)) for ceiling in evidence.ceilings]
    return [
        f"{ceiling.org}: {amount} {ceiling.unit} of {ceiling.limit}"
        for ceiling, amount in used
        if amount > ceiling.limit
    ]


def _used(calls: Sequence[Call], unit: Unit) -> int:
    match unit:
        case "nano_usd":
            return sum(map(cost_nano_usd, calls))
        case "tokens":
            return sum(call.prompt_tokens + call.completion_tokens for call in calls)
        case "requests":
            return len({call.start.request_id for call in calls})
        case "at_once":
            return most_at_once(calls)


def _amounts(call: Call) -> tuple[int, int, int | None]:
    return call.prompt_tokens, call.completion_tokens, cost_nano_usd(call)


def _is_restated(last: Outcome, first: Outcome) -> bool:
    """The same end of the same request, read off another record of it; no backend was called."""
    places = last.value.get("parents"), first.value.get("parents")
    if places[0] == places[1] or last.attempts or first.attempts:
        return False
    return _decision(last.value) == _decision(first.value)


def _decision(value: Mapping[str, Any]) -> dict[str, Any]:
    """An end without what differs by the record that it was read off; bookings of nothing are none."""
    by_record = dict.fromkeys(("parents", "accepted_at_ms", "finished_at_ms"))
    booked = [booking for booking in value.get("bookings", ()) if booking["amount"]]
    return {**value, **by_record, "bookings": booked}


def _told(last: object, first: object) -> str:
    return f"{last} after {first}"


def _is_same(first: Outcome, last: Outcome) -> bool:
    """Whether two records of one end say the same. Its dispatcher may have been told by a store, and not have heard
    it: then one copy is settled, and the other one says that it is not known to be."""
    told = dict.fromkeys(("unsettled",))
    return replace(first, value={**first.value, **told}) == replace(
        last, value={**last.value, **told}
    )


def _first_of(
    records: Iterable[T], key: Callable[[T], K], is_same: Callable[[T, T], bool] = eq
) -> tuple[dict[K, T], list[tuple[T, T]]]:
    """The first record of each key, and the later ones that differ from it, each with that first."""
    first: dict[K, T] = {}
    differing = [
        (record, first[key(record)])
        for record in records
        if not is_same(first.setdefault(key(record), record), record)
    ]
    return first, differing


def _grouped(records: Iterable[T], key: Callable[[T], str]) -> dict[str, list[T]]:
    groups: dict[str, list[T]] = defaultdict(list)
    for record in records:
        groups[key(record)].append(record)
    return groups
