"""Compares outcomes, usage lines and the ledger one by one, and names what does not fit: pure.

`verify` says that sums differ; this says of which request. A copy of a record that is equal to it byte
for byte is no difference, because delivery is at least once: it is listed as doubled and not counted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from schemas.events import AttemptAdjusted, RecordRef, RequestFinished, UsageRecorded
from schemas.ids import uuid7_time_ms
from schemas.ledger.states import OPEN
from schemas.usage import amounts_of

Kind: TypeAlias = Literal[
    "settled_not_booked",
    "booked_not_settled",
    "outcome_not_booked",
    "outcome_without_usage_line",
    "usage_line_without_outcome",
    "usage_line_doubled",
    "usage_line_differs",
    "balance_differs",
]
HARMLESS: Final[frozenset[Kind]] = frozenset({"usage_line_doubled"})

Place: TypeAlias = tuple[int, int]
"""Partition of outcomes, and offset."""
Amounts: TypeAlias = tuple[int, ...]
"""As ``schemas.usage.amounts_of`` has them."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not fit; ``what`` is a usage line, or a balance and its field."""

    kind: Kind
    org: str
    request_id: str | None
    what: str
    detail: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """One outcome or correction: where it stands, and what its usage lines have to say."""

    org: str
    request_id: str
    place: Place
    at_ms: int
    lines: Mapping[str, Amounts]
    is_correction: bool
    books: bool
    """Whether it books an amount on a balance."""


@dataclass(frozen=True, slots=True)
class Line:
    """The first usage line of its id."""

    org: str
    request_id: str
    at_ms: int
    amounts: Amounts
    outcome: Place
    digest: bytes
    """Of the record's value: of a line, what it says is all that is kept."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What the ledger knows of a request: its attempt's state, and where its outcome is booked."""

    state: str
    booked: str


@dataclass(frozen=True, slots=True)
class Span:
    """Unix milliseconds: what was appended in [start, end) is judged; reading began at ``read_from``."""

    start: int
    end: int
    read_from: int

    def __contains__(self, at_ms: int) -> bool:
        return self.start <= at_ms < self.end


@dataclass(slots=True)
class Reading:
    """What was read of both topics."""

    span: Span
    is_complete: bool = True
    """Whether both were read to their ends; if not, nothing can be said to be missing."""
    outcomes: dict[tuple[str, str], Outcome] = field(default_factory=dict)
    """The first by request and reference."""
    lines: dict[str, Line] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def add_outcome(
        self, event: RequestFinished | AttemptAdjusted, ref: RecordRef, at_ms: int
    ) -> None:
        """Take an outcome in; a later copy of one has no effect."""
        outcome = outcome_of(event, ref, at_ms)
        name = min(outcome.lines) if outcome.is_correction else ""
        self.outcomes.setdefault((outcome.request_id, name), outcome)

    def add_line(self, line: UsageRecorded, at_ms: int, value: bytes) -> None:
        """Take a usage line in."""
        place = (line.outcome.partition, line.outcome.offset)
        digest = hashlib.blake2b(value, digest_size=16).digest()
        taken = Line(
            line.org, line.request_id, at_ms, amounts_of(line, line.revision), place, digest
        )
        first = self.lines.setdefault(line.usage_id, taken)
        if first is taken or at_ms not in self.span:
            return
        kind: Kind = "usage_line_doubled" if first.digest == digest else "usage_line_differs"
        detail = f"outcome {place[0]}:{place[1]}, first {first.outcome[0]}:{first.outcome[1]}"
        self.findings.append(Finding(kind, line.org, line.request_id, line.usage_id, detail))

    def is_whole(self, request_id: str) -> bool:
        """Whether all records of the request must have been read: it was made after reading began."""
        if not self.is_complete:
            return False
        try:
            return uuid7_time_ms(request_id) >= self.span.read_from
        except ValueError:
            return True


def outcome_of(event: RequestFinished | AttemptAdjusted, ref: RecordRef, at_ms: int) -> Outcome:
    """The outcome that stands at ``ref``."""
    if isinstance(event, AttemptAdjusted):
        revision, attempts, is_correction = event.revision, [event.delta], True
    else:
        revision, attempts, is_correction = 0, event.attempts, False
    return Outcome(
        org=event.org,
        request_id=event.request_id,
        place=(ref.partition, ref.offset),
        at_ms=at_ms,
        lines={
            f"{event.request_id}:{a.attempt}:{revision}": amounts_of(a, revision) for a in attempts
        },
        is_correction=is_correction,
        books=any(booking.amount for booking in event.bookings),
    )


def judge(
    reading: Reading, processed: Mapping[int, int], known: Mapping[str, Standing]
) -> tuple[list[Finding], int]:
    """All that does not fit between the topics and the ledger, and how many outcomes are not booked yet.

    ``processed`` is the first offset of each partition that accounting was not done with before the
    usage lines were read; ``known`` is by request.
    """
    findings, waiting = list(reading.findings), 0
    expected: set[str] = set()
    for outcome in reading.outcomes.values():
        expected |= outcome.lines.keys()
        if outcome.at_ms not in reading.span:
            continue
        partition, offset = outcome.place
        if offset >= processed.get(partition, 0):
            waiting += 1
            continue
        findings += _of_outcome(reading, outcome, known.get(outcome.request_id, Standing("", "")))
    findings += _orphans(reading, expected)
    return findings, waiting


def _of_outcome(reading: Reading, outcome: Outcome, standing: Standing) -> Iterator[Finding]:
    org, request_id, place = outcome.org, outcome.request_id, "{}:{}".format(*outcome.place)
    if outcome.books and not outcome.is_correction and standing.state in OPEN:
        detail = f"booked at {place}, its hold is {standing.state}"
        yield Finding("booked_not_settled", org, request_id, request_id, detail)
    if not outcome.is_correction and standing.state and not standing.booked:
        detail = f"it stands at {place}, and accounting is done with it"
        yield Finding("outcome_not_booked", org, request_id, request_id, detail)
    for usage_id, amounts in outcome.lines.items():
        line = reading.lines.get(usage_id)
        # A copy of an outcome that stands before what was read has its line before it as well.
        is_first = reading.is_complete and standing.booked == place
        if line is None and (is_first or reading.is_whole(request_id)):
            detail = f"outcome at {place}"
            yield Finding("outcome_without_usage_line", org, request_id, usage_id, detail)
        elif line is not None and line.outcome == outcome.place and line.amounts != amounts:
            detail = f"outcome at {place} says {amounts}, the line {line.amounts}"
            yield Finding("usage_line_differs", org, request_id, usage_id, detail)


def _orphans(reading: Reading, expected: set[str]) -> Iterator[Finding]:
    for usage_id, line in reading.lines.items():
        if usage_id in expected or line.at_ms not in reading.span:
            continue
        if reading.is_whole(line.request_id):
            detail = "it names the outcome {}:{}".format(*line.outcome)
            yield Finding("usage_line_without_outcome", line.org, line.request_id, usage_id, detail)


def summary(findings: list[Finding]) -> dict[str, int]:
    """How many there are of each kind."""
    kinds = [finding.kind for finding in findings]
    return {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}
