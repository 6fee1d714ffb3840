"""Times after which something is given up, forgotten or done again, at full length and divided. Pure.

The one list. Composition roots hand ``Times`` down; importing this has no effect. Tests on real parts
divide all of them by ``TALLYGATE_TEST_TIME_SCALE``, so that what takes an hour shows within a minute;
none becomes shorter than its floor, below which machines and not rules decide. Deadlines of single
round trips are no part of it: they stand beside the call.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import Any, Final, TypeVar

SECOND_MS: Final = 1_000
MINUTE_MS: Final = 60 * SECOND_MS
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS

PRODUCE_WITHIN_MS: Final = 10 * SECOND_MS
"""A request is in the log this long after it was accepted, or never runs: ingress gives up, the limiter ends
what was appended later, and a look-up concludes from it what is absent. Of a broker, and so never divided."""

SIGNATURE_WITHIN_MS: Final = 5 * MINUTE_MS
"""A signed request is taken this long before and after its timestamp, by the gateway's clock. Clients are told so: never
divided."""

T = TypeVar("T", "LedgerTimes", "Times")


def _ms(full_ms: int, *, at_least_ms: int = 1) -> int:
    """A time of the list, and its floor when it is divided."""
    floor: int = field(default=full_ms, metadata={"at_least_ms": at_least_ms})
    return floor


@dataclass(frozen=True, slots=True)
class LedgerTimes:
    """What the ledger's functions know; each is a constant of its name, in capitals, in their source."""

    attempt_kept_ms: int = _ms(72 * HOUR_MS)
    """An attempt is remembered at most this long; the backstop, not the rule."""
    terminal_kept_ms: int = _ms(15 * MINUTE_MS, at_least_ms=SECOND_MS)
    """An ended attempt is remembered this long past its deadline."""
    table_kept_ms: int = _ms(40 * DAY_MS, at_least_ms=HOUR_MS)
    """Balances, totals and usage hours stay this long after their period."""
    claim_kept_ms: int = _ms(DAY_MS, at_least_ms=MINUTE_MS)
    """An idempotency key is remembered this long."""
    job_kept_ms: int = _ms(72 * HOUR_MS, at_least_ms=MINUTE_MS)
    """A job stands in lists this long."""
    concurrency_margin_ms: int = _ms(MINUTE_MS, at_least_ms=SECOND_MS)
    """A concurrency lease ends this long after its request's deadline, if nothing ended it before."""
    requeue_ms: int = _ms(30 * SECOND_MS, at_least_ms=SECOND_MS)
    """A reaped attempt that was not confirmed is listed again after this."""
    retry_guess_ms: int = _ms(SECOND_MS, at_least_ms=SECOND_MS)
    """The hint where nobody knows when a hold returns."""
    attempt_lease_ms: int = _ms(10 * SECOND_MS, at_least_ms=2 * SECOND_MS)
    """A running attempt belongs to its owner this long after each renewal."""


@dataclass(frozen=True, slots=True)
class Times:
    """What the processes know, and with it what the ledger knows."""

    ledger: LedgerTimes = field(default_factory=LedgerTimes)

    lease_renewal_ms: int = _ms(3 * SECOND_MS, at_least_ms=500)
    """Leases of running attempts are renewed this often."""
    reap_period_ms: int = _ms(SECOND_MS, at_least_ms=200)
    """Ended and abandoned attempts are looked for this often."""
    reap_grace_ms: int = _ms(30 * SECOND_MS, at_least_ms=SECOND_MS)
    """A running attempt is left alone this long past its lease."""
    reconcile_period_ms: int = _ms(10 * SECOND_MS, at_least_ms=SECOND_MS)
    """Accounting looks this often for what is settled and not booked."""
    unbooked_margin_ms: int = _ms(MINUTE_MS, at_least_ms=5 * SECOND_MS)
    """What is finished has this long to reach the log, before it is produced again."""

    verify_period_ms: int = _ms(MINUTE_MS, at_least_ms=5 * SECOND_MS)
    """The control plane compares ledger and log this often."""

    deadline_default_ms: int = _ms(2 * MINUTE_MS, at_least_ms=5 * SECOND_MS)
    """A request that states no deadline has this long, where settings say nothing else."""
    deadline_max_ms: int = _ms(10 * MINUTE_MS, at_least_ms=10 * SECOND_MS)
    """No request has longer, where settings say nothing else."""

    flex_deadline_default_ms: int = _ms(HOUR_MS, at_least_ms=30 * SECOND_MS)
    """A flex request that states no deadline has this long to be answered."""
    flex_deadline_max_ms: int = _ms(DAY_MS, at_least_ms=MINUTE_MS)
    """No flex request has longer. Once it is started it has no longer than others."""

    stuck_after_ms: int = _ms(12 * MINUTE_MS, at_least_ms=10 * SECOND_MS)
    """A worker in which a record stays unfinished this long ends; above the longest deadline."""
    transient_max_ms: int = _ms(10 * MINUTE_MS, at_least_ms=5 * SECOND_MS)
    """A batch is tried again this long while something it needs is away."""

    frames_running_ms: int = _ms(15 * MINUTE_MS, at_least_ms=15 * SECOND_MS)
    """Frames of a running request stay on the bus this long; longer than any may run."""
    frames_ended_ms: int = _ms(MINUTE_MS, at_least_ms=5 * SECOND_MS)
    """Frames stay this long after the terminal one, for an ingress that missed it: a minute of traffic."""
    frames_kept_ms: int = _ms(10 * MINUTE_MS, at_least_ms=5 * SECOND_MS)
    """Answers of jobs and keyed requests stay this long; afterwards the log has them."""
    streams_kept_ms: int = _ms(DAY_MS, at_least_ms=15 * SECOND_MS)
    """Keyed streams stay this long, whose events are nowhere else; organizations share the room."""
    job_streams_kept_ms: int = _ms(15 * MINUTE_MS, at_least_ms=15 * SECOND_MS)
    """Streams of jobs without a key stay this long after each frame; longer than any may run."""


FULL: Final = Times()
"""The times of every installation."""


def divided(times: T, divisor: int) -> T:
    """The same times, each divided and not below its floor. ``ValueError`` for a divisor below 1."""
    if divisor < 1:
        raise ValueError(f"{divisor} divides no time")
    changed: dict[str, Any] = {}
    for each in fields(times):
        value = getattr(times, each.name)
        if isinstance(value, LedgerTimes):
            changed[each.name] = divided(value, divisor)
        else:
            changed[each.name] = min(value, max(value // divisor, each.metadata["at_least_ms"]))
    return replace(times, **changed)


@cache
def times_of(divisor: int) -> Times:
    """The times of an installation that divides them; every installation but a test's divides by 1."""
    return divided(FULL, divisor)
