"""The calls of a rebuild: what they take, what they answer, and their constructors. Pure.

Only the owner of a shard's partition makes them, and each but the first says which rebuild it is of: one
that was overtaken is told STALE, and stops.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import msgspec

from schemas.ledger import keys
from schemas.ledger.answers import Answer, Ok, Stale
from schemas.ledger.calls import Call
from schemas.ledger.documents import Part
from schemas.ledger.errors import LedgerFault

__all__ = [
    "Restored",
    "RestoredBalance",
    "RestoredClaim",
    "RestoredJob",
    "RestoredMark",
    "RestoredRate",
    "RestoredUsage",
    "Salvaged",
    "SalvagedOutcome",
    "Unlinked",
    "ask",
    "ask_for_trial",
    "begin",
    "encoded_marks",
    "found",
    "note",
    "open_",
    "restore_balances",
    "restore_claims",
    "restore_jobs",
    "restore_marks",
    "restore_rates",
    "restore_usage",
    "restored",
    "salvage",
    "unlink",
]


class RestoredBalance(Part, frozen=True, kw_only=True):
    """What the log says of a balance; its period ends at ``end_ms``, if ever.

    ``changed`` is the last outcome that is not in its snapshot, if there is one.
    """

    org: str
    key: str
    settled: int
    over: int = 0
    late: int = 0
    end_ms: int | None = None
    changed: int | None = None


RestoredMark: TypeAlias = tuple[str, str, str, int, int, bool]
"""Organization, request, field of the mark, offset, when it may be forgotten (ms), whether it ran."""


Restored: TypeAlias = Literal["marks", "claims", "all"]
"""What was restored last; what comes before it was restored, too."""


class RestoredRate(Part, frozen=True, kw_only=True):
    """When a bucket is full again."""

    org: str
    key: str
    until_us: int


class RestoredUsage(Part, frozen=True, kw_only=True):
    """What the log says of a usage hour up to the end of the fold."""

    org: str
    hour: str
    part: str
    """Which part of it, so that each is added once."""
    cells: dict[str, int]
    until_ms: int
    """When the log may forget its record."""
    changed: int | None = None


class RestoredClaim(Part, frozen=True, kw_only=True):
    """An idempotency key and the request that holds it."""

    org: str
    key_hash: str
    req: str
    fingerprint: str
    produce_by_ms: int
    deadline_ms: int
    until_ms: int


class RestoredJob(Part, frozen=True, kw_only=True):
    """A job as lists show it; ``ends`` once it ended."""

    org: str
    req: str
    info: str
    created_ms: int
    until_ms: int
    ends: str | None = None


class Unlinked(Answer, frozen=True, kw_only=True):
    """One step is done; the cursor is "0" after the last."""

    cursor: str
    count: int


class SalvagedOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """Whose outcome it is."""

    org: str
    req: str


class Salvaged(Answer, frozen=True, kw_only=True):
    """A page of what is finished and not booked; ``more`` may follow."""

    entries: tuple[SalvagedOutcome, ...] = ()
    outcomes: tuple[bytes, ...] = ()
    more: bool = False


class _SalvageCall(Call[Any]):
    """A call whose reply has bytes for each entry."""

    def decode(self, reply: Any) -> Any:
        if isinstance(reply, bytes):
            return super().decode(reply)
        try:
            page = self.decoder.decode(reply[0])
        except (msgspec.MsgspecError, TypeError, IndexError) as error:
            raise LedgerFault(f"{self.command[1]!r} answered {reply!r:.200}") from error
        return msgspec.structs.replace(page, outcomes=tuple(reply[1:]))


Done: TypeAlias = Ok | Stale
_DONE: Any = msgspec.json.Decoder(Ok | Stale, strict=False)
_UNLINKED: Any = msgspec.json.Decoder(Unlinked | Stale, strict=False)
_SALVAGED: Any = msgspec.json.Decoder(Salvaged | Stale, strict=False)
_encode = msgspec.json.Encoder().encode


def _command(function: str, shard: int, names: Sequence[str], **document: Any) -> Any:
    found = [keys.of_shard(shard, name) for name in (keys.META, *names)]
    return ("FCALL", function, str(len(found)), *found, _encode(document))


def ask(shard: int, why: str) -> Call[Ok]:
    """Close a shard, so that its owner rebuilds it."""
    return Call(_command("tg1_rebuild_ask", shard, (), why=why), _DONE)


def ask_for_trial(shard: int, trial: str) -> Call[Ok]:
    """Ask the owner of a shard what a rebuild would change."""
    return Call(_command("tg1_rebuild_ask", shard, (), trial=trial), _DONE)


def found(shard: int, trial: str, finding: str) -> Call[Done]:
    """Say what the trial found."""
    return Call(_command("tg1_rebuild_found", shard, (), trial=trial, found=finding), _DONE)


def note(shard: int, building: str, step: str, records: int) -> Call[Done]:
    """Say how far a rebuild is."""
    document = {"building": building, "step": step, "records": records}
    return Call(_command("tg1_rebuild_note", shard, (), **document), _DONE)


def begin(shard: int, epoch: int, building: str) -> Call[Done]:
    """Close a shard for a rebuild under a new epoch."""
    command = _command("tg1_rebuild_begin", shard, (), epoch=epoch, building=building)
    return Call(command, _DONE)


def salvage(shard: int, building: str, skip: int, limit: int) -> Call[Salvaged | Stale]:
    """Read outcomes that only the ledger may have."""
    command = _command(
        "tg1_rebuild_salvage", shard, (keys.FINISHED,), building=building, skip=skip, limit=limit
    )
    return _SalvageCall(command, _SALVAGED)


def unlink(shard: int, building: str, cursor: str) -> Call[Unlinked | Stale]:
    """Empty a shard by one step."""
    command = _command("tg1_rebuild_unlink", shard, (), building=building, cursor=cursor)
    return Call(command, _UNLINKED)


def restore_balances(
    shard: int, building: str, offset: int, balances: Sequence[RestoredBalance]
) -> Call[Done]:
    """Write absolute balances, and totals that say the same."""
    names = (keys.CHANGED,)
    document = {"building": building, "offset": offset, "balances": balances}
    return Call(_command("tg1_restore_balances", shard, names, **document), _DONE)


def encoded_marks(marks: Sequence[RestoredMark]) -> bytes:
    """Marks as a call takes them."""
    return _encode(marks)


def restore_marks(shard: int, building: str, marks: bytes) -> Call[Done]:
    """Write where the first records of requests stand, as ``encoded_marks`` has them."""
    document = {"building": building, "marks": msgspec.Raw(marks)}
    return Call(_command("tg1_restore_marks", shard, (keys.ENDED,), **document), _DONE)


def restore_rates(shard: int, building: str, rates: Sequence[RestoredRate]) -> Call[Done]:
    """Empty buckets as far as the last admissions did."""
    return Call(_command("tg1_restore_rates", shard, (), building=building, rates=rates), _DONE)


def open_(shard: int, building: str, offset: int, forgot_ms: int, awaited: bytes) -> Call[Done]:
    """Open the shard: all outcomes up to the offset are in it, but for the marks that are ``awaited``."""
    document = {"building": building, "offset": offset, "forgot_ms": forgot_ms}
    command = _command("tg1_rebuild_open", shard, (keys.FORGOT, keys.AWAITED), **document)
    return Call((*command, awaited), _DONE)


def restore_usage(shard: int, building: str, hours: Sequence[RestoredUsage]) -> Call[Done]:
    """Add usage hours to an open shard, each once."""
    names = (keys.RESTORED, keys.CHANGED)
    return Call(_command("tg1_restore_usage", shard, names, building=building, hours=hours), _DONE)


def restore_claims(shard: int, building: str, claims: Sequence[RestoredClaim]) -> Call[Done]:
    """Hold idempotency keys again."""
    return Call(_command("tg1_restore_claims", shard, (), building=building, claims=claims), _DONE)


def restore_jobs(shard: int, building: str, jobs: Sequence[RestoredJob]) -> Call[Done]:
    """List jobs again."""
    return Call(_command("tg1_restore_jobs", shard, (), building=building, jobs=jobs), _DONE)


def restored(shard: int, building: str, last: Restored) -> Call[Done]:
    """Say that all marks are back, that keys and jobs are as well, or that nothing is left to do."""
    names = (keys.RESTORED, keys.AWAITED)
    command = _command("tg1_rebuild_restored", shard, names, building=building, last=last)
    return Call(command, _DONE)
