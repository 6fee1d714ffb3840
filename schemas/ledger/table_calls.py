"""The calls on what a shard has to write to the log: what they take, what they answer, and their constructors. Pure.

Only the owner of a shard's partition makes them.
"""

from __future__ import annotations

from typing import Any

import msgspec

from schemas.ledger import keys
from schemas.ledger.answers import Answer, NotReady, Ok
from schemas.ledger.calls import Call
from schemas.ledger.documents import KeptKey, Part

__all__ = [
    "Changed",
    "Forgotten",
    "ListOutlived",
    "Outlived",
    "Page",
    "Swept",
    "TableAt",
    "Written",
    "changed",
    "forgotten",
    "outlived",
    "sweep",
    "written",
]


class Page(Part, frozen=True, kw_only=True):
    """Where to go on in a list, and about how much to take."""

    cursor: str = "0"
    count: int = 500


class TableAt(Part, frozen=True, kw_only=True):
    """A table, named by its suffix, and the offset of an outcome that changed it."""

    org: str
    table: str
    offset: int


class Written(Part, frozen=True, kw_only=True):
    """Tables that are in the log as they were after their offsets, and the keys of their records."""

    tables: tuple[TableAt, ...] = ()
    kept: tuple[KeptKey, ...] = ()


class ListOutlived(Part, frozen=True, kw_only=True):
    """How many keys to list that the log is to forget."""

    limit: int = 1_000


class Forgotten(Part, frozen=True, kw_only=True):
    """Keys that the log has tombstones of."""

    keys: tuple[str, ...] = ()


class Changed(Answer, frozen=True, kw_only=True):
    """Tables to be written to the log, and what a checkpoint says of their shard."""

    cursor: str
    tables: tuple[TableAt, ...] = ()
    epoch: int
    swept_ms: int
    now_ms: int
    complete: bool
    """Whether nothing of a rebuild is left to do."""
    cluster_id: str | None = None
    birth_id: str | None = None


class Swept(Answer, frozen=True, kw_only=True):
    """Where to go on; `0` when all tables are noted."""

    cursor: str


class Outlived(Answer, frozen=True, kw_only=True):
    """Keys of records that the log is to forget."""

    keys: tuple[str, ...] = ()


def _decoder(answer: Any) -> msgspec.json.Decoder[Any]:
    # Not strict, because offsets come as decimal strings.
    return msgspec.json.Decoder(answer | NotReady, strict=False)


_OK = _decoder(Ok)
_CHANGED = _decoder(Changed)
_SWEPT = _decoder(Swept)
_OUTLIVED = _decoder(Outlived)


def _command(
    function: str, shard: int, names: tuple[str, ...], document: Part
) -> tuple[str | bytes, ...]:
    of_shard = [keys.of_shard(shard, name) for name in (keys.META, *names)]
    return ("FCALL", function, str(len(of_shard)), *of_shard, msgspec.json.encode(document))


def changed(shard: int, document: Page) -> Call[Changed]:
    """Read some of the tables that have to be written to the log."""
    return Call(_command("tg1_changed", shard, (keys.CHANGED,), document), _CHANGED)


def written(shard: int, document: Written) -> Call[Ok]:
    """Note what is in the log now."""
    names = (keys.CHANGED, keys.KEPT)
    return Call(_command("tg1_written", shard, names, document), _OK)


def sweep(shard: int, document: Page) -> Call[Swept]:
    """Note some tables to be written anew."""
    names = (keys.CHANGED, keys.KEPT)
    return Call(_command("tg1_sweep", shard, names, document), _SWEPT)


def outlived(shard: int, document: ListOutlived) -> Call[Outlived]:
    """Read what the log is to forget."""
    return Call(_command("tg1_outlived", shard, (keys.KEPT,), document), _OUTLIVED)


def forgotten(shard: int, document: Forgotten) -> Call[Ok]:
    """Note what the log has forgotten."""
    return Call(_command("tg1_forgotten", shard, (keys.KEPT,), document), _OK)
