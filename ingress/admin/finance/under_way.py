"""What lies between the calls and the log: the amounts that attempts hold, or have settled and nobody booked. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from ingress.admin.finance.hour_sums import sums_of_table
from ingress.admin.finance.verify import OrgTables, UnderWay
from schemas.codec import decode_as
from schemas.events import RequestFinished
from schemas.ledger.answers import Examined, Spare
from schemas.ledger.documents import Booking

_HOLDS = frozenset({"RESERVED", "RUNNING", "RESTORED"})
_SETTLES_LATER = frozenset({"UNKNOWN"})


def tables_of_examined(examined: Examined) -> OrgTables:
    """The organization's tables at the instant of the answer."""
    return OrgTables(
        balances=examined.balances,
        totals=examined.totals,
        hours={hour: sums_of_table(cells) for hour, cells in examined.usage.items()},
        cells=examined.usage,
        under_way=None if examined.more else under_way(examined),
        reached=examined.reached,
    )


def under_way(examined: Examined) -> UnderWay:
    """What the attempts of the answer speak for. Raises ``Poison`` on an outcome that is none."""
    amounts: dict[str, Counter[str]] = defaultdict(Counter)
    requests: dict[str, list[str]] = defaultdict(list)

    def add(request: str, field: str, amounts_of: Iterable[Booking | Spare]) -> None:
        for each in amounts_of:
            amounts[each.key][field] += each.amount
            requests[each.key].append(request)

    for attempt in examined.attempts:
        if attempt.state in _HOLDS:
            add(attempt.req, "reserved", attempt.holds)
            add(attempt.req, "spare", attempt.spare)
        elif attempt.state in _SETTLES_LATER and not attempt.booked:
            add(attempt.req, "settled", attempt.holds)
        if not attempt.booked:
            add(attempt.req, "settled", attempt.first)
    for request, encoded in examined.outcomes:
        for booking in decode_as(encoded, RequestFinished).bookings:
            amounts[booking.key]["settled"] += booking.amount
            requests[booking.key].append(request)
    return UnderWay(amounts, {key: tuple(dict.fromkeys(ids)) for key, ids in requests.items()})
