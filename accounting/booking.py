"""What an outcome adds to the books: a row for the ledger and a usage line per attempt. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, NamedTuple, TypeAlias

import msgspec

from schemas.attribution import attribution_of
from schemas.codec import decode_as
from schemas.events import Attempt, AttemptAdjusted, RecordRef, RequestFinished, UsageRecorded
from schemas.job_ends import encode_end, end_of
from schemas.ledger import documents
from schemas.outgoing import Outgoing, outcome_record
from schemas.shard_events import KeptRequest
from schemas.snapshots import key_of
from schemas.times import HOUR_MS
from schemas.usage import UsageRow, hour_of, measures_of

KEPT_LONGER_MS: Final = HOUR_MS
"""The log forgets later than the ledger: who takes a key again after that has written it anew by then."""


class Place(NamedTuple):
    """An outcome: where it stands in its partition, and when it was appended."""

    offset: int
    at_ms: int


BookedThrough: TypeAlias = dict[int, Place]
"""By partition, the last of the outcomes of which all are booked."""


def outcome_again(encoded: bytes) -> Outgoing:
    """An outcome that the ledger kept, as its dispatcher would have produced it: a copy, not another event.

    Raises ``MalformedRecord``.
    """
    return outcome_record(decode_as(encoded, RequestFinished), "dispatcher", encoded=encoded)


@dataclass(frozen=True, slots=True)
class Entry:
    """One outcome, ready to be booked."""

    org: str
    row: documents.OutcomeRow
    lines: tuple[UsageRecorded, ...]
    kept: tuple[KeptRequest, ...] = ()
    """What it is found by later."""

    def decided(self, *, is_first: bool) -> Entry:
        """The entry with the log's word on whether it is the first of its request."""
        return replace(self, row=msgspec.structs.replace(self.row, is_first=is_first))

    def keeping(self, kept: tuple[KeptRequest, ...]) -> Entry:
        """The entry with what it is found by; the ledger says when the log may forget that."""
        keys = tuple(
            documents.KeptKey(key=key_of(each), until_ms=each.expires_at_ms + KEPT_LONGER_MS)
            for each in kept
        )
        return replace(self, row=msgspec.structs.replace(self.row, kept=keys), kept=kept)


def entry_of(event: RequestFinished | AttemptAdjusted, ref: RecordRef, at_ms: int) -> Entry:
    """The entry of the outcome that stands at ``ref`` and was appended at that time."""
    if isinstance(event, AttemptAdjusted):
        revision = event.revision
        attempts = [event.delta]
        adjustment: str | None = f"{event.delta.attempt}:{revision}"
    else:
        revision, attempts, adjustment = 0, event.attempts, None
    row = documents.OutcomeRow(
        offset=ref.offset,
        at_ms=at_ms,
        ran=bool(attempts),
        unsettled=isinstance(event, RequestFinished) and event.unsettled,
        req=event.request_id,
        deadline_ms=event.deadline_ms,
        ref=adjustment,
        ends=_ends(event),
        usage=tuple(_usage(event, attempt, revision) for attempt in attempts),
        bookings=tuple(
            documents.Booking(key=b.key, unit=b.unit, amount=b.amount)  # type: ignore[arg-type]
            for b in event.bookings
        ),
    )
    lines = tuple(_line(event, attempt, revision, ref) for attempt in attempts)
    return Entry(event.org, row, lines)


def _ends(event: RequestFinished | AttemptAdjusted) -> str | None:
    """How a job ended, for the lists that show it. The ledger knows it of those that it finished, unless
    it has lost that since, or was closed just then."""
    if isinstance(event, AttemptAdjusted) or event.job is None:
        return None
    return encode_end(end_of(event))


def _usage(
    event: RequestFinished | AttemptAdjusted, attempt: Attempt, revision: int
) -> documents.UsageLine:
    row = UsageRow.of(event.key_id, event.user, event.model, attempt.backend)
    return documents.UsageLine(
        hour=hour_of(attempt.finished_at_ms),
        row=row.encoded(),
        measures=measures_of(attempt, revision),
    )


def _line(
    event: RequestFinished | AttemptAdjusted, attempt: Attempt, revision: int, ref: RecordRef
) -> UsageRecorded:
    return UsageRecorded(
        usage_id=f"{event.request_id}:{attempt.attempt}:{revision}",
        **attribution_of(event),
        attempt=attempt.attempt,
        revision=revision,
        backend=attempt.backend,
        status=attempt.status,
        started_at_ms=attempt.started_at_ms,
        finished_at_ms=attempt.finished_at_ms,
        input_tokens=attempt.input_tokens,
        output_tokens=attempt.output_tokens,
        cached_tokens=attempt.cached_tokens,
        reasoning_tokens=attempt.reasoning_tokens,
        estimated=attempt.estimated,
        price_version=attempt.price_version,
        cost_nano_usd=attempt.cost_nano_usd,
        outcome=ref,
        cache_write_tokens=attempt.cache_write_tokens,
        cache_write_1h_tokens=attempt.cache_write_1h_tokens,
        audio_input_tokens=attempt.audio_input_tokens,
        image_input_tokens=attempt.image_input_tokens,
        audio_output_tokens=attempt.audio_output_tokens,
        image_output_tokens=attempt.image_output_tokens,
        tool_calls=attempt.tool_calls,
        tool_kinds=attempt.tool_kinds,
        service_tier=attempt.service_tier,
    )
