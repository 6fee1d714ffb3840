"""One constructor per ledger function: its name, its keys, its encoded document, its decoder.

Pure: a call is a value, and what to do with it (one at a time, many in one round trip) is for
others to decide. The keys are those that the header of each Lua function names; all of one call are of one
shard, of which `meta` is the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Generic, TypeAlias, TypeVar

import msgspec

from schemas.ledger import answers, documents, keys, shard_documents
from schemas.ledger.errors import LedgerFault, LedgerNotReady
from schemas.ledger.keys import (
    CHANGED,
    ENDED,
    EXPIRING,
    FINISHED,
    FORGOT,
    INFLIGHT,
    KEPT,
    META,
    of_shard,
    shard_in,
)

A_co = TypeVar("A_co", covariant=True)

_META_AT: Final = 3
"""Which part of a command is the key of its shard's ``meta``."""
_CLOSED: Final = "the ledger is empty or being rebuilt"
_BEHIND: Final = "this store holds an earlier life of the shard"

Reply: TypeAlias = bytes | list[bytes]
"""JSON, or JSON and an encoded outcome."""


@dataclass(frozen=True, slots=True)
class Call(Generic[A_co]):
    """One invocation of a ledger function."""

    command: tuple[str | bytes | int, ...]
    decoder: msgspec.json.Decoder[Any]

    @property
    def shard(self) -> int:
        """The shard that is asked."""
        return shard_in(str(self.command[_META_AT]))

    @property
    def request_id(self) -> str | None:
        """The request that it is about; ``None`` where it is about something else, or is not told by its first key."""
        key = self.command[_META_AT + 1]
        return keys.request_in(key) if isinstance(key, str) else None

    def decode(self, reply: Reply) -> A_co:
        """The answer in a reply; raises LedgerNotReady, and LedgerFault for what is no answer."""
        try:
            answer = self._read(reply)
        except (msgspec.MsgspecError, TypeError, ValueError) as error:
            raise LedgerFault(f"{self.command[1]!r} answered {reply!r:.200}") from error
        if isinstance(answer, answers.NotReady):
            raise LedgerNotReady(_BEHIND if answer.behind else _CLOSED)
        decoded: A_co = answer
        return decoded

    def _read(self, reply: Reply) -> Any:
        if isinstance(reply, bytes):
            return self.decoder.decode(reply)
        text, outcome = reply
        if not isinstance(outcome, bytes):
            raise TypeError("an outcome is bytes")
        return msgspec.structs.replace(self.decoder.decode(text), outcome=outcome)


def _decoder(answer: Any) -> msgspec.json.Decoder[Any]:
    # Not strict, because large integers come as decimal strings.
    return msgspec.json.Decoder(answer | answers.NotReady, strict=False)


_ADMIT = _decoder(answers.AdmitAnswer)
_START = _decoder(answers.StartAnswer)
_NEXT_ATTEMPT = _decoder(answers.NextAttemptAnswer)
_RENEW = _decoder(answers.RenewAnswer)
_ATTACH = _decoder(answers.AttachAnswer)
_RESTORE = _decoder(answers.RestoreAnswer)
_FINISH = _decoder(answers.FinishAnswer)
_CANCEL = _decoder(answers.CancelAnswer)
_CLAIM = _decoder(answers.ClaimAnswer)
_RELEASE = _decoder(answers.ReleaseAnswer)
_JOB = _decoder(answers.JobAnswer)
_JOBS = _decoder(answers.Jobs)
_LOOK = _decoder(answers.Look)
_REAP = _decoder(answers.ReapedAttempts)
_OK = _decoder(answers.Ok)
_BOOK = _decoder(answers.Booked)
_UNBOOKED = _decoder(answers.Unbooked)
_SNAPSHOT = _decoder(answers.Snapshot)
_EXAMINE = _decoder(answers.Examined)
_META = _decoder(answers.Meta)
_encode = msgspec.json.Encoder().encode


def _command(
    function: str, shard: int, names: tuple[str, ...], document: object
) -> tuple[str | bytes, ...]:
    meta = of_shard(shard, META)
    return ("FCALL", function, str(1 + len(names)), meta, *names, _encode(document))


def _on_request(
    function: str, shard: int, document: documents.RequestDocument
) -> tuple[str | bytes, ...]:
    names = (
        keys.attempt(shard, document.org, document.req),
        of_shard(shard, EXPIRING),
        of_shard(shard, INFLIGHT),
    )
    return _command(function, shard, names, document)


def admit(shard: int, document: documents.Admit) -> Call[answers.AdmitAnswer]:
    """Decide all limits of a request at once and take its hold."""
    return Call(_on_request("tg1_admit", shard, document), _ADMIT)


def start(shard: int, document: documents.Start) -> Call[answers.StartAnswer]:
    """Claim a request; one that comes with its hold is admitted again by a ledger without it."""
    function = "tg1_start" if document.readmit is None else "tg1_readmit"
    return Call(_on_request(function, shard, document), _START)


def next_attempt(shard: int, document: documents.NextAttempt) -> Call[answers.NextAttemptAnswer]:
    """Fail over to attempt 2 under the next fence."""
    return Call(_on_request("tg1_next_attempt", shard, document), _NEXT_ATTEMPT)


def renew(shard: int, document: documents.Renew) -> Call[answers.RenewAnswer]:
    """Extend the lease of a running attempt."""
    return Call(_on_request("tg1_renew", shard, document), _RENEW)


def attach(shard: int, document: documents.Attach) -> Call[answers.AttachAnswer]:
    """Say who runs a request that the ledger does not know to run."""
    return Call(_on_request("tg1_attach", shard, document), _ATTACH)


def restore(shard: int, document: documents.Restore) -> Call[answers.RestoreAnswer]:
    """Put back what a rebuild found open."""
    names = (of_shard(shard, EXPIRING),)
    return Call(_command("tg1_restore", shard, names, document), _RESTORE)


def finish(shard: int, document: documents.Finish, outcome: bytes) -> Call[answers.FinishAnswer]:
    """Book the real cost, return the hold, keep the encoded outcome."""
    names = (
        keys.attempt(shard, document.org, document.req),
        of_shard(shard, EXPIRING),
        of_shard(shard, INFLIGHT),
        of_shard(shard, FINISHED),
    )
    return Call((*_command("tg1_finish", shard, names, document), outcome), _FINISH)


def cancel(shard: int, document: documents.Cancel) -> Call[answers.CancelAnswer]:
    """Leave a tombstone, or flag a running attempt."""
    return Call(_on_request("tg1_cancel", shard, document), _CANCEL)


def claim(shard: int, document: documents.Claim) -> Call[answers.ClaimAnswer]:
    """Claim an idempotency key for a request."""
    names = (
        keys.idempotency(shard, document.org, document.key_hash),
        of_shard(shard, FORGOT),
    )
    return Call(_command("tg1_claim", shard, names, document), _CLAIM)


def release(shard: int, document: documents.Release) -> Call[answers.ReleaseAnswer]:
    """Give an idempotency key back."""
    names = (keys.idempotency(shard, document.org, document.key_hash),)
    return Call(_command("tg1_release", shard, names, document), _RELEASE)


def job(shard: int, document: documents.Job) -> Call[answers.JobAnswer]:
    """Remember that a request is a job."""
    names = (
        keys.jobs(shard, document.org),
        keys.attempt(shard, document.org, document.req),
    )
    return Call(_command("tg1_job", shard, names, document), _JOB)


def jobs(shard: int, document: documents.ListJobs) -> Call[answers.Jobs]:
    """Read a page of jobs."""
    return Call(_command("tg1_jobs", shard, (keys.jobs(shard, document.org),), document), _JOBS)


def look(shard: int, document: documents.Look) -> Call[answers.Look]:
    """Read what is known of a request."""
    names = (keys.attempt(shard, document.org, document.req),)
    return Call(_command("tg1_look", shard, names, document), _LOOK)


def reap(shard: int, document: documents.Reap) -> Call[answers.ReapedAttempts]:
    """End what nobody ends; listed again until confirmed."""
    names = (of_shard(shard, EXPIRING), of_shard(shard, INFLIGHT))
    return Call(_command("tg1_reap", shard, names, document), _REAP)


def reaped(shard: int, document: documents.Reaped) -> Call[answers.Ok]:
    """Confirm that the outcomes of reaped attempts are in Kafka."""
    return Call(_command("tg1_reaped", shard, (of_shard(shard, EXPIRING),), document), _OK)


def book(shard: int, document: documents.Book) -> Call[answers.Booked]:
    """Add outcomes and corrections to the books of their organization."""
    names = (
        keys.mark(shard, document.org),
        of_shard(shard, FINISHED),
        of_shard(shard, ENDED),
        of_shard(shard, FORGOT),
        of_shard(shard, EXPIRING),
        of_shard(shard, INFLIGHT),
        of_shard(shard, CHANGED),
        of_shard(shard, KEPT),
    )
    return Call(_command("tg1_book", shard, names, document), _BOOK)


def unbooked(shard: int, document: documents.ListUnbooked) -> Call[answers.Unbooked]:
    """Read what is finished and not booked."""
    names = (of_shard(shard, FINISHED),)
    return Call(_command("tg1_unbooked", shard, names, document), _UNBOOKED)


def snapshot(shard: int, document: documents.TakeSnapshot) -> Call[answers.Snapshot]:
    """Read tables of one organization at one instant."""
    names = (keys.mark(shard, document.org),)
    return Call(_command("tg1_snapshot", shard, names, document), _SNAPSHOT)


def meet(shard: int) -> Call[answers.Meta]:
    """Close a shard whose store is another process than the one that was sure of it."""
    return Call(_command("tg1_meet", shard, (), shard_documents.Meet()), _META)


def examine(shard: int, document: documents.Examine) -> Call[answers.Examined]:
    """Read tables of one organization with what its attempts hold or have settled, at one instant."""
    queues = (of_shard(shard, queue) for queue in (EXPIRING, INFLIGHT, FINISHED))
    names = (keys.mark(shard, document.org), *queues)
    return Call(_command("tg1_examine", shard, names, document), _EXAMINE)


def identify(shard: int, document: shard_documents.Identify) -> Call[answers.Meta]:
    """Close a shard that is the fold of another log than the one here."""
    return Call(_command("tg1_identify", shard, (), document), _META)


def init(shard: int, document: shard_documents.Init) -> Call[answers.Meta]:
    """Make a new, empty shard usable; changes nothing in one that exists."""
    return Call(_command("tg1_init", shard, (), document), _META)
