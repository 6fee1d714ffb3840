"""Loads the functions of the ledger into a store, and never over newer ones.

The revision is in the library's name. Two libraries cannot have a function of one name, so the store
itself refuses an older one beside a newer, whoever comes first.
"""

from __future__ import annotations

from typing import Any, Final

from schemas.ledger.errors import LedgerFull
from schemas.log_events import LogEvent
from schemas.runtime.ledger.script import FAMILY, REVISION, revision_of
from schemas.runtime.ledger.store_errors import error_of
from schemas.runtime.process.event_log import EventLog
from schemas.runtime.valkey.store import Send, StoreError

_LOG = EventLog(__name__)

_COLLIDES: Final = "already exists"


async def load_functions(send: Send, source: str) -> None:
    """Load them over older ones. Raises ``StoreError`` where newer ones are: the process is outdated.

    A store that is full loads nothing; it will do as long as it has these very functions.
    """
    try:
        await send("FUNCTION", "LOAD", "REPLACE", source)
    except StoreError as error:
        if _COLLIDES in str(error):
            await _replace(send, source, [name for name, _ in await _libraries(send)])
        elif not isinstance(error_of(error), LedgerFull) or not await _has(send, source):
            raise


async def _replace(send: Send, source: str, others: list[str]) -> None:
    """Put ours in the place of older ones, at once: nobody finds the store without functions."""
    newest = max(map(revision_of, others), default=0)
    if newest > REVISION:
        _LOG.event(LogEvent.FUNCTIONS_NEWER, count=newest, expected=REVISION)
        raise StoreError(f"revision {newest} of the functions is newer than our {REVISION}")
    await send("MULTI")
    for name in others:
        await send("FUNCTION", "DELETE", name)
    await send("FUNCTION", "LOAD", "REPLACE", source)
    for reply in await send("EXEC"):
        if isinstance(reply, StoreError):
            raise reply


async def _libraries(send: Send) -> list[tuple[str, bytes]]:
    """Name and source of each revision that is loaded."""
    found: Any = await send("FUNCTION", "LIST", "LIBRARYNAME", f"{FAMILY}*", "WITHCODE")
    fields = [dict(zip(each[::2], each[1::2], strict=True)) for each in found]
    return [(each[b"library_name"].decode(), each[b"library_code"]) for each in fields]


async def _has(send: Send, source: str) -> bool:
    return source.encode() in [code for _, code in await _libraries(send)]
