"""A batch as a value: what was asked for, how far it came, and where its parts stand in the store. Pure.

A batch is a row of states, each written by one owner only: the first by whoever took it in, the next by whoever runs it,
another by whoever takes it over. The last one counts, so that an owner who was thought dead writes where nobody looks.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final, Literal, TypeAlias

import msgspec

from ingress.apis.openai.batches import RequestCounts
from ingress.auth.caller import Caller
from ingress.files.names import file_id, org_prefix
from schemas.ids import uuid7, uuid7_time_ms

__all__ = [
    "ENDED",
    "Batch",
    "BatchError",
    "BatchStatus",
    "batch_id",
    "batches_prefix",
    "cancel_path",
    "is_batch_id",
    "open_path",
    "output_id",
    "part_path",
    "parts_prefix",
    "read_open",
    "state_path",
    "states_prefix",
]

BatchStatus: TypeAlias = Literal[
    "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled",
]  # fmt: skip
ENDED: Final[frozenset[BatchStatus]] = frozenset({"failed", "completed", "expired", "cancelled"})
"""Statuses in which nothing happens any more."""
OPEN_PREFIX: Final = "_open"
"""No organization's objects stand here: its id begins with a letter or digit."""
_PREFIX: Final = "batch_"
_ID: Final = re.compile(r"batch_[0-9a-f]{12}7[0-9a-f]{3}[89ab][0-9a-f]{15}")


class BatchError(msgspec.Struct, frozen=True):
    """What is wrong with the input of a batch; ``line`` counts from 1."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None


class Batch(msgspec.Struct, frozen=True):
    """A batch, as far as its newest owner has told."""

    id: str
    operation: str
    """The name of the one operation of all its lines."""
    endpoint: str
    input_file_id: str
    input_bytes: int
    caller: Caller
    """Who asked for it, and pays for its lines."""
    expires_at_s: int
    output_kept_s: int
    metadata: dict[str, str] | None = None
    webhook_url: str | None = None
    """Where its end is told, by its client's wish; ``None`` where its organization is told."""
    status: BatchStatus = "validating"
    times: dict[BatchStatus, int] = {}
    """Unix seconds at which it came to a status."""
    errors: tuple[BatchError, ...] = ()
    total: int = 0
    completed: int = 0
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    output_file_id: str | None = None
    error_file_id: str | None = None

    @property
    def created_at_s(self) -> int:
        """Unix seconds, from the id."""
        return uuid7_time_ms(self.id.removeprefix(_PREFIX)) // 1_000

    @property
    def counts(self) -> RequestCounts:
        """How far it came."""
        return {"total": self.total, "completed": self.completed, "failed": self.failed}

    def to(self, status: BatchStatus, now_s: int) -> Batch:
        """The batch in another status, from now on."""
        return msgspec.structs.replace(self, status=status, times={**self.times, status: now_s})


def batch_id(now_ms: int, random_bytes: bytes) -> str:
    """A new id; ids sort by the time they were made."""
    return _PREFIX + uuid7(now_ms, random_bytes).replace("-", "")


def is_batch_id(text: str) -> bool:
    """Whether it is an id exactly as they are made, so that it can stand in a path."""
    return _ID.fullmatch(text) is not None


def output_id(batch: str, what: str) -> str:
    """The id of a file that a batch writes: the same whoever writes it, so that nothing is left twice."""
    made_ms = uuid7_time_ms(batch.removeprefix(_PREFIX))
    return file_id(made_ms, hashlib.sha256(f"{batch}/{what}".encode()).digest())


def batches_prefix(org: str) -> str:
    """What the batches of an organization stand below."""
    return f"{org_prefix(org)}/batches"


def states_prefix(org: str, batch: str) -> str:
    """What the states of a batch stand below."""
    return f"{batches_prefix(org)}/{batch}/states"


def state_path(org: str, batch: str, fence: int) -> str:
    """Where the owner with this fence tells how far it came."""
    return f"{states_prefix(org, batch)}/{fence:08}"


def parts_prefix(org: str, batch: str) -> str:
    """What the ended lines of a batch stand below, while it runs."""
    return f"{org_prefix(org)}/parts/{batch}"


def part_path(org: str, batch: str, fence: int, number: int) -> str:
    """Where an owner writes some of the lines that ended."""
    return f"{parts_prefix(org, batch)}/{fence:08}-{number:08}"


def cancel_path(org: str, batch: str) -> str:
    """What says that a batch is to be cancelled, by being there."""
    return f"{org_prefix(org)}/cancelled/{batch}"


def open_path(org: str, batch: str) -> str:
    """What says that a batch has not ended, by being there."""
    return f"{OPEN_PREFIX}/{batch}/{org.encode().hex()}"


def read_open(path: str) -> tuple[str, str] | None:
    """Organization and batch of such a path; ``None`` for what nobody here wrote."""
    _, _, rest = path.partition("/")
    batch, _, org = rest.partition("/")
    try:
        return (bytes.fromhex(org).decode(), batch) if is_batch_id(batch) else None
    except ValueError:
        return None
