"""Failures, drawn once: who has to do what when something goes wrong. Pure.

    Failure
    ├── Transient        try again, within a deadline: a store, a broker or a backend was away
    │   ├── LedgerUnavailable: LedgerNotReady, LedgerFull
    │   ├── StoreUnavailable, BrokenProtocol
    │   ├── ProduceFailed, RecordUnreadable: RecordGone
    │   ├── LogUnreadable, LogReplaced, NotSure, OutOfBounds, LookupsWait, Overtaken, FolderLost
    │   ├── ScanUnavailable, CheckpointBusy
    │   ├── ConfigUnavailable, UnknownSchema
    │   ├── FilesAway, FileMissing, UploadStopped, LineStopped
    │   └── Unreachable, AnswerBroken, ServiceSilent
    ├── Poison           this one record, entry or answer can never succeed; its neighbours can
    │   ├── MalformedRecord, ProduceRefused
    │   ├── UpstreamGarbage, BackendError, Uncallable, Unaskable
    │   └── CheckpointBroken, OddAnswer
    ├── Defect           ours, or of what we depend on: no repetition mends it, somebody must look
    │   ├── StoreError, LedgerFault, CloseRefused
    │   ├── TooManyDeadLetters, PartitionCountChanged, ConsumerEnded, OffsetGap
    │   └── ScanFailed, FoldDefect, PortTaken
    └── UpstreamFailure  a call of a backend that gave no answer: it says itself whether another may try

Every exception class of the processes is one of the three, so that a boundary decides by kind and not by a
list of names. Whoever catches ``Transient`` retries with a cap; a boundary around one record, one
attempt or one entity catches everything, ends that one with a typed outcome, and goes on.
"""

from __future__ import annotations

__all__ = ["Defect", "Failure", "Poison", "Transient"]


class Failure(Exception):
    """Something went wrong, in our own terms."""


class Transient(Failure):
    """It may succeed when tried again; whether it happened may be unknown."""


class Poison(Failure):
    """It can never succeed: end this one, leave its neighbours alone."""


class Defect(Failure):
    """A programming error, or a dependency that broke its contract."""
