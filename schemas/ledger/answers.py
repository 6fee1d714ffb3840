"""What the functions of the ledger answer, as frozen values. Pure.

The tag `v` of the JSON tells answers apart; the unions at the end say what each function may
answer. Amounts are integers of their unit: nano-USD, tokens or requests.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeAlias

import msgspec

from schemas.events import RateStatus, RecordRef
from schemas.ledger.documents import Booking, DeclineReason
from schemas.ledger.states import State
from schemas.topics import OUTCOMES

RowFate: TypeAlias = Literal["BOOKED", "SEEN", "DUPLICATE"]


class GivenUp(msgspec.Struct, frozen=True, kw_only=True):
    """Attempt 1 of a request that has a second: its owner vanished, or failed over itself.

    Of a restored request nobody knows who that was.
    """

    attempt: int
    verdict: Literal["UNKNOWN", "FAILED"]
    fence: int = 0
    owner: str = ""
    booked: tuple[Booking, ...] = ()


class ReapEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A request that was ended; the holds of an UNKNOWN one are what was booked for it.

    `fence` is for its last frame: above that of every frame that was sent before.
    """

    org: str
    req: str
    verdict: Literal["VOIDED", "UNKNOWN"]
    attempt: int
    accepted_ms: int
    deadline_ms: int
    fence: int
    info: str = ""
    holds: tuple[Booking, ...] = ()
    first: GivenUp | None = None


class Answer(msgspec.Struct, frozen=True, kw_only=True, tag_field="v", tag=str.upper):
    """A verdict of the ledger."""


class NotReady(Answer, frozen=True, tag="NOT_READY"):
    """The shard is empty or being rebuilt, or ``behind``: this store holds an earlier life of it.

    The client raises LedgerNotReady for it.
    """

    behind: bool = False


class Ok(Answer, frozen=True):
    """Done."""


class Admitted(Answer, frozen=True, kw_only=True):
    """The hold is taken; what each rate has left."""

    remaining: tuple[RateStatus, ...] = ()


class Limited(Answer, frozen=True, kw_only=True):
    """A rate or concurrency limit stands against it now."""

    id: str
    usage: int
    limit: int
    retry_after_ms: int


class Refused(Answer, frozen=True, kw_only=True):
    """It cannot fit. `attempts` and `streamed` come from next_attempt and name no limit."""

    why: Literal["spent", "too_large", "attempts", "streamed"]
    id: str = ""
    usage: int = 0
    limit: int = 0


class Contended(Answer, frozen=True, kw_only=True):
    """It would fit if every running hold returned."""

    id: str
    usage: int
    limit: int
    retry_after_ms: int


class Declined(Answer, frozen=True, kw_only=True):
    """The gateway itself ended it, as the document of the first copy said."""

    why: DeclineReason
    retry_after_ms: int = 0


class Rolled(Answer, frozen=True, kw_only=True):
    """The period named is not the current one; ask again with that of `now_ms`, the ledger's time."""

    id: str
    now_ms: int


class Expired(Answer, frozen=True):
    """The deadline passed."""


class Cancelled(Answer, frozen=True):
    """Somebody cancelled the request."""


class Superseded(Answer, frozen=True):
    """A later copy of the request decides; this one ends without an outcome."""


class Duplicate(Answer, frozen=True, kw_only=True):
    """Decided before, with this answer; None: it is over, there is nothing to produce.

    `state` is that of the attempt now, `terms` those of its admission while it holds.
    """

    answer: Admitted | Limited | Refused | Contended | Declined | Expired | Cancelled | None = None
    state: State = ""
    terms: str = ""


class Fence(Answer, frozen=True, kw_only=True):
    """The claim holds under this fence; `unknown` is the attempt that was given up for it."""

    fence: int
    attempt: int
    unknown: GivenUp | None = None


class Busy(Answer, frozen=True, kw_only=True):
    """Somebody runs it, for `ms` more at least. An owner that reads its own name may adopt it."""

    ms: int
    owner: str
    fence: int
    attempt: int


class Finished(Answer, frozen=True, kw_only=True):
    """Done before, with this encoded outcome; once booked it is empty, and stands at ``booked``."""

    outcome: bytes = b""
    booked: str = ""


class Repeated(Answer, frozen=True, kw_only=True, tag="DUPLICATE"):
    """This very call was made before; of `finish`, with what Finished has."""

    outcome: bytes = b""
    booked: str = ""


class Unknown(Answer, frozen=True):
    """Its owner vanished; `reap` will list it."""


class Gone(Answer, frozen=True):
    """The ledger does not know the request; or not who runs it: to its owner, which attaches then."""


class Restored(Answer, frozen=True):
    """Nobody has said for long enough that he runs it: the log knows whether it ended."""


class Stale(Answer, frozen=True, kw_only=True):
    """The fence, the incarnation or the rebuild is not the current one.

    To whoever runs an attempt `written_off` says which of them the ledger settled whole as lost, of a
    request that has not finished.
    """

    written_off: tuple[int, ...] = ()


class Running(Answer, frozen=True, kw_only=True):
    """Its owner has to be told."""

    owner: str


class Terminal(Answer, frozen=True):
    """It is over already."""


class Claimed(Answer, frozen=True, kw_only=True):
    """The key is the caller's; `req` is another's when that one is to be produced again."""

    req: str
    deadline_ms: int


class Held(Answer, frozen=True, kw_only=True):
    """The key is that of `req`, whose attempt is in `state` (empty: the ledger knows of none)."""

    req: str
    state: State
    deadline_ms: int


class Mismatch(Answer, frozen=True):
    """The key came with another body before."""


class JobEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One job of a listing: its facts, the state of its attempt (empty: none yet), how it ended."""

    req: str
    info: str
    state: State
    ends: str | None = None


class Jobs(Answer, frozen=True, kw_only=True):
    """A page of jobs, newest first; `more` follow."""

    entries: tuple[JobEntry, ...] = ()
    more: bool


class Look(Answer, frozen=True, kw_only=True):
    """The state of a request (empty: unknown), its job's info, its outcome once finished.

    Once that is booked it is empty, and stands at ``booked``. ``kept_missing``: one without info may be a job
    all the same, because a rebuild has not brought jobs back yet.
    """

    state: State
    job: str | None = None
    kept_missing: bool = False
    outcome: bytes = b""
    booked: str = ""


class ReapedAttempts(Answer, frozen=True, kw_only=True, tag="REAPED"):
    """What was ended and not yet confirmed."""

    entries: tuple[ReapEntry, ...] = ()


class Booked(Answer, frozen=True, kw_only=True):
    """The fate of each row, and the offset that is booked now (-1: none yet).

    Fewer fates than rows: of the next row only the log can say whether it is the first of its request.
    """

    rows: tuple[RowFate, ...] = ()
    offset: int


class UnbookedAttempt(msgspec.Struct, frozen=True, kw_only=True):
    """A request that is settled, and whose outcome is not booked."""

    org: str
    req: str
    finished_ms: int


class Unbooked(Answer, frozen=True, kw_only=True):
    """A page of what is finished and not booked, the oldest first."""

    entries: tuple[UnbookedAttempt, ...] = ()


class Snapshot(Answer, frozen=True, kw_only=True):
    """Absolute values; `offsets` by partition, `totals` by suffix of the balance."""

    offsets: dict[int, int]
    usage: dict[str, dict[str, int]]
    balances: dict[str, dict[str, int]]
    totals: dict[str, dict[str, int]]
    epoch: int = 0
    folded: int = -1
    """Up to which outcome a rebuild made the shard."""


class Spare(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt that was restored holds once more, on one balance."""

    key: str
    amount: int


class ExaminedAttempt(msgspec.Struct, frozen=True, kw_only=True):
    """A request that holds, or has settled what is not booked; `first` is what its first attempt was booked at."""

    req: str
    state: State
    booked: str | None = None
    holds: tuple[Booking, ...] = ()
    spare: tuple[Spare, ...] = ()
    first: tuple[Booking, ...] = ()
    outcome_bytes: int = 0


class Examined(Answer, frozen=True, kw_only=True):
    """Tables of one organization, up to the outcome at `reached`, and its attempts, at one instant.

    `more`: there are too many attempts, and none is listed.
    """

    reached: int
    usage: dict[str, dict[str, int]]
    balances: dict[str, dict[str, int]]
    totals: dict[str, dict[str, int]]
    attempts: tuple[ExaminedAttempt, ...] = ()
    more: bool = False
    outcome: bytes = b""
    """The encoded outcomes of attempts that have one, one behind the other."""

    @property
    def outcomes(self) -> Iterator[tuple[str, bytes]]:
        """Request and encoded outcome."""
        start = 0
        for attempt in self.attempts:
            if attempt.outcome_bytes:
                end = start + attempt.outcome_bytes
                yield attempt.req, self.outcome[start:end]
                start = end


class Meta(Answer, frozen=True, kw_only=True):
    """Which life of a shard this is."""

    epoch: int
    ready: bool
    why: str = ""
    """Why it is closed, where somebody closed it."""
    booked: int = -1
    """The last outcome that is booked, of `identify`; -1: none, or not known."""


AdmitAnswer: TypeAlias = (
    Admitted
    | Limited
    | Refused
    | Contended
    | Declined
    | Rolled
    | Expired
    | Cancelled
    | Superseded
    | Duplicate
)
StartAnswer: TypeAlias = (
    Fence
    | Busy
    | Restored
    | Finished
    | Unknown
    | Expired
    | Cancelled
    | Gone
    | Limited
    | Refused
    | Contended
    | Declined
)
NextAttemptAnswer: TypeAlias = Fence | Refused | Contended | Stale | Gone | Cancelled | Expired
RenewAnswer: TypeAlias = Ok | Cancelled | Stale | Gone
AttachAnswer: TypeAlias = Ok | Cancelled | Stale | Gone
FinishAnswer: TypeAlias = Ok | Repeated | Stale | Gone
CancelAnswer: TypeAlias = Ok | Running | Terminal | Stale
ClaimAnswer: TypeAlias = Claimed | Held | Mismatch | Limited
JobAnswer: TypeAlias = Ok | Limited
ReleaseAnswer: TypeAlias = Ok | Stale
RestoreAnswer: TypeAlias = Ok | Stale


def outcome_place(booked: str) -> RecordRef | None:
    """Where the outcome stands of which an answer says ``booked``; ``None`` when it is not booked."""
    partition, _, offset = booked.partition(":")
    if not (partition.isdecimal() and offset.isdecimal()):
        return None
    return RecordRef(topic=OUTCOMES, partition=int(partition), offset=int(offset))
