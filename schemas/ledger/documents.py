"""What the functions of the ledger take, as frozen values. Pure.

Each document becomes the one JSON argument of its function; those of every request leave out what is as it
mostly is (`omit_defaults`), which a function takes for the same. Amounts are integers of their unit
(nano-USD, tokens or requests) below 2^53; keys are suffixes inside the organization.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

Unit: TypeAlias = Literal["nano_usd", "tokens", "requests"]


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A frozen piece of a document."""


class Document(Part, frozen=True, kw_only=True):
    """`now_us` is obeyed only by a ledger whose `meta` has test_clock=1."""

    org: str
    now_us: int | None = None


class RequestDocument(Document, frozen=True, kw_only=True):
    """A document on one request."""

    req: str


class Charge(Part, frozen=True, kw_only=True):
    """A bucket that a request was charged for, refilled at thousandths of a unit per second."""

    key: str
    cost: int
    rate_milli_per_s: int


class Rate(Charge, frozen=True, kw_only=True, omit_defaults=True):
    """A token bucket to charge, `burst` units deep.

    `limit` is what a refusal tells, the burst without it. The rate is positive; exact while cost, burst
    and rate stay below 9e10.
    """

    id: str
    burst: int
    limit: int | None = None


class Lease(Part, frozen=True, kw_only=True):
    """A concurrency limit to enter; a readmission enters it without asking its limit."""

    key: str
    id: str = ""
    limit: int = 0


class Balance(Part, frozen=True, kw_only=True, omit_defaults=True):
    """An amount to hold on a balance in its period [start_ms, end_ms).

    Without a limit the balance is only tracked; without an end it never rolls over.
    """

    key: str
    unit: Unit
    amount: int
    id: str = ""
    limit: int | None = None
    start_ms: int
    end_ms: int | None = None


class RateUse(Part, frozen=True, kw_only=True):
    """What a request really used of a bucket it was charged for."""

    key: str
    units: int


class Booking(Part, frozen=True, kw_only=True):
    """An amount on one balance, named by its suffix; signed in a correction."""

    key: str
    unit: Unit
    amount: int


class UsageLine(Part, frozen=True, kw_only=True):
    """Measures to add in one UTC hour (`2026-11-21T12`) to a row: key, user, model, backend.

    The four are joined by tabs.
    """

    hour: str
    row: str
    measures: dict[str, int]


class KeptKey(Part, frozen=True, kw_only=True):
    """The key of a record in the log, and until when it is of use; None: for ever."""

    key: str
    until_ms: int | None = None


class OutcomeRow(Part, frozen=True, kw_only=True, omit_defaults=True):
    """One record of the outcomes topic; `ref` names a correction and is empty for an outcome.

    `at_ms` is its append time; with `ran` a backend was called; with `unsettled` no call of the ledger
    settled what it books, because the ledger was closed when it ended. `is_first` says what the log says of a
    row that the ledger had no mark of and may have forgotten. `ends` is opaque text that says how a
    job ended. `kept` are records that the caller writes to the log about the request.
    """

    offset: int
    at_ms: int
    req: str
    deadline_ms: int
    ran: bool = False
    unsettled: bool = False
    is_first: bool | None = None
    ref: str | None = None
    ends: str | None = None
    usage: tuple[UsageLine, ...] = ()
    bookings: tuple[Booking, ...] = ()
    kept: tuple[KeptKey, ...] = ()


class Readmission(Part, frozen=True, kw_only=True):
    """The hold of a request that a rebuilt ledger no longer knows."""

    deadline_ms: int
    accepted_ms: int
    balances: tuple[Balance, ...] = ()
    leases: tuple[Lease, ...] = ()
    info: str = ""


DeclineReason: TypeAlias = Literal[
    "overloaded", "unavailable", "late", "revoked", "gone", "unpriced", "defect", "rolled", "taken"
]


class Decline(Part, frozen=True, kw_only=True):
    """Why the gateway itself ends a request that no limit was asked for, and when to come back.

    `late` is of one copy alone: its produce arrived after its ingress had given it up. `taken` says the ledger
    itself: another request has the key of this one.
    """

    why: DeclineReason
    retry_after_ms: int = 0


class BroughtKey(Part, frozen=True, kw_only=True):
    """The idempotency key that a request was accepted under, and the body it came with."""

    key_hash: str
    fingerprint: str


class Admit(RequestDocument, frozen=True, kw_only=True, omit_defaults=True):
    """All limits of one request, each key once; `info` is opaque text that `reap` hands back.

    With `defer`, or for the limits that `waits_for` names, a LIMITED is not kept: it is asked again.
    With `decline` no limit is asked: that is kept as any refusal. `incarnation_ms` says which produce
    of its id it is (`produce_by_ms` of the record). `terms` is opaque text, kept while it holds. A `key`
    must not be another's, and a `job` (opaque facts) is listed where it is not: a ledger that was rebuilt
    may never have heard of either.
    """

    deadline_ms: int
    accepted_ms: int
    rates: tuple[Rate, ...] = ()
    leases: tuple[Lease, ...] = ()
    balances: tuple[Balance, ...] = ()
    defer: bool = False
    waits_for: tuple[str, ...] = ()
    decline: Decline | None = None
    incarnation_ms: int = 0
    terms: str = ""
    info: str = ""
    key: BroughtKey | None = None
    job: str | None = None


class Start(RequestDocument, frozen=True, kw_only=True, omit_defaults=True):
    """A claim; the two options say what may be done when a lease expired or the ledger forgot.

    Of a restored request: with `fresh` nobody but the caller can have run it; with `asked` the log was
    asked, and has no outcome of it.
    """

    owner: str
    lease_ms: int
    second_attempt: tuple[Balance, ...] | None = None
    readmit: Readmission | None = None
    fresh: bool = False
    asked: bool = False


class FirstAttempt(Part, frozen=True, kw_only=True):
    """What became of attempt 1 by the word of attempt 2's owner; a unit left out was spent whole."""

    verdict: Literal["UNKNOWN", "FAILED"]
    fence: int
    actual: dict[Unit, int | None] = {}


class Attach(RequestDocument, frozen=True, kw_only=True):
    """An owner that the ledger forgot, what it runs, and the hold of the request.

    With `attempt` 2, `first` says what became of the other; `streamed` as of a renewal.
    """

    owner: str
    lease_ms: int
    fence: int
    attempt: int
    streamed: bool = False
    first: FirstAttempt | None = None
    readmit: Readmission


class RestoredRequest(Part, frozen=True, kw_only=True):
    """A request that was admitted and has not ended, as the log tells it: its terms and what it holds."""

    org: str
    req: str
    deadline_ms: int
    accepted_ms: int
    balances: tuple[Balance, ...] = ()
    leases: tuple[Lease, ...] = ()
    rates: tuple[Charge, ...] = ()
    incarnation_ms: int = 0
    terms: str = ""
    info: str = ""


class Restore(Part, frozen=True, kw_only=True):
    """Requests of one shard; `building` names the rebuild that is under way in its `meta`."""

    building: str
    attempts: tuple[RestoredRequest, ...]
    now_us: int | None = None


class NextAttempt(RequestDocument, frozen=True, kw_only=True, omit_defaults=True):
    """A failover; `estimate` is what attempt 1 is booked at when it may have spent."""

    fence: int
    may_have_spent: bool
    second: tuple[Balance, ...] = ()
    estimate: dict[Unit, int] = {}


class Renew(RequestDocument, frozen=True, kw_only=True, omit_defaults=True):
    """A heartbeat; `streamed` is sent before the first content frame and from then on."""

    fence: int
    lease_ms: int
    streamed: bool = False


class Finish(RequestDocument, frozen=True, kw_only=True, omit_defaults=True):
    """The real cost; a unit that is None or left out is booked at its whole hold.

    `ends` is opaque text that says in short how it ended, for lists of jobs.
    """

    fence: int
    actual: dict[Unit, int | None] = {}
    actual_rates: tuple[RateUse, ...] = ()
    ends: str | None = None


class Cancel(RequestDocument, frozen=True, kw_only=True):
    """A cancellation; the deadline says how long a tombstone is of use.

    `incarnation_ms` is the produce that its ingress gave up; None: whoever runs, and for ever.
    """

    deadline_ms: int
    incarnation_ms: int | None = None


class Claim(RequestDocument, frozen=True, kw_only=True):
    """An idempotency key, the body it came with, and the request that wants it.

    The organization has at most `limit` keys. `produce_by_ms` becomes the incarnation of whatever is
    produced under this claim. With `joins` nothing is: the holder's record was seen in the log, and the
    caller waits for it.
    """

    key_hash: str
    fingerprint: str
    produce_by_ms: int
    deadline_ms: int
    limit: int
    joins: bool = False


class Release(RequestDocument, frozen=True, kw_only=True):
    """An idempotency key that its request gives back."""

    key_hash: str


class Job(RequestDocument, frozen=True, kw_only=True):
    """A request that is a job; `info` is opaque text that listings hand back.

    At most `limit` jobs of the organization are remembered.
    """

    created_ms: int
    info: str
    limit: int


class ListJobs(Document, frozen=True, kw_only=True):
    """A page of jobs, newest first, after the last one of the page before."""

    limit: int
    after: str | None = None


class Look(RequestDocument, frozen=True, kw_only=True):
    """A question about one request."""


class Book(Document, frozen=True, kw_only=True, omit_defaults=True):
    """Outcomes of one organization in offset order."""

    partition: int
    rows: tuple[OutcomeRow, ...] = ()


class ListUnbooked(Part, frozen=True, kw_only=True):
    """Which finished attempts to list: those until a time, in pages."""

    until_ms: int
    skip: int = 0
    limit: int = 1_000


class TakeSnapshot(Document, frozen=True, kw_only=True):
    """Which usage hours and which balances (suffixes) to read."""

    hours: tuple[str, ...] = ()
    balances: tuple[str, ...] = ()


class Examine(Document, frozen=True, kw_only=True):
    """Which usage hours and balances to read, beside what attempts hold.

    Of more than ``limit`` attempts of the shard none is looked at.
    """

    hours: tuple[str, ...] = ()
    balances: tuple[str, ...] = ()
    limit: int = 2_000


class Reap(Part, frozen=True, kw_only=True):
    """How many attempts to end at most, and how long an expired lease is left alone."""

    limit: int
    grace_ms: int = 30_000
    now_us: int | None = None


class ReapedRequest(Part, frozen=True, kw_only=True):
    """A reaped request whose outcome is in Kafka."""

    org: str
    req: str


class Reaped(Part, frozen=True, kw_only=True):
    """Confirmations."""

    entries: tuple[ReapedRequest, ...] = ()
