"""Puts files of organizations into the store within their quotas, and finds them for their callers.

Files of other organizations look like none, and to a user those of others and of programs do. What an organization has is
asked of the store at each upload, before its content and behind it: processes share no count, so of uploads that together
would exceed the quota too many are refused rather than too few.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ingress.auth.caller import Caller
from ingress.files.names import StoredFile, content_path, file_id, is_file_id
from ingress.files.stock import FileMissing, FilesAway, Stock
from ingress.http.refusals import Refusal
from schemas.errors import ErrorCode
from schemas.ids import UUID7_RANDOM_BYTES
from schemas.log_events import LogEvent
from schemas.runtime.process.clock import Clock, random_bytes
from schemas.runtime.process.event_log import EventLog

if TYPE_CHECKING:
    from ingress.files.store import FileStore

_LOG = EventLog(__name__)

AWAY: Final = Refusal(ErrorCode.SERVICE_UNAVAILABLE, "The store of files cannot be asked now.")
NO_FILES: Final = Refusal(
    ErrorCode.NOT_FOUND, "This gateway keeps no files: its TALLYGATE_FILES_URL is not set."
)
NO_FILE: Final = Refusal(ErrorCode.NOT_FOUND, "There is no such file.")


@dataclass(frozen=True, slots=True)
class Quota:
    """What one organization may have."""

    files_max: int
    bytes_max: int

    def refuse(self, stock: Stock, more_files: int, more_bytes: int) -> Refusal | None:
        """Why so much more does not fit beside what there is."""
        if len(stock.sizes) + more_files > self.files_max:
            what = f"may have {self.files_max} files"
        elif stock.total_bytes + more_bytes > self.bytes_max:
            what = f"may have {self.bytes_max} bytes in files, and has {stock.total_bytes}"
        else:
            return None
        message = f"The organization {what}. Delete files that are not needed."
        return Refusal(ErrorCode.BODY_TOO_LARGE, message)


@dataclass(frozen=True, slots=True)
class Shelf:
    """The files of all organizations, as their callers may use them."""

    store: FileStore
    quota: Quota
    clock: Clock

    async def put(
        self,
        org: str,
        pieces: AsyncIterator[bytes],
        announced_bytes: int,
        describe: Callable[[str, int], StoredFile | Refusal],
    ) -> StoredFile | Refusal:
        """A new file; ``describe`` tells it by its id and bytes, or why it is none, once its content is there. Raises what
        the pieces raise."""
        name = file_id(self.clock.now_ms(), random_bytes(UUID7_RANDOM_BYTES))
        try:
            refusal = self.quota.refuse(await self._stock(org), 1, announced_bytes)
            if refusal is not None:
                return refusal
            size = await self.store.write(content_path(org, name), pieces)
            file = describe(name, size)
            over = self.quota.refuse(await self._stock(org), 0, 0)
            if over is None and isinstance(file, StoredFile):
                await self.store.describe(org, file)
                return file
            await self.store.discard(org, name)
        except (FilesAway, FileMissing) as error:
            return _away(error)
        return file if isinstance(file, Refusal) else over or AWAY

    async def find(self, caller: Caller, name: str) -> StoredFile | Refusal:
        """A file of the caller."""
        if not is_file_id(name):
            return NO_FILE
        try:
            file = await self.store.find(caller.org, name)
        except FilesAway as error:
            return _away(error)
        if file is None or not file.is_open_to(caller.owner, self.clock.now_ms()):
            return NO_FILE
        return file

    async def files(self, caller: Caller) -> list[StoredFile] | Refusal:
        """All files of the caller, newest first."""
        try:
            files = await self.store.files(caller.org)
        except FilesAway as error:
            return _away(error)
        now_ms = self.clock.now_ms()
        return [file for file in files if file.is_open_to(caller.owner, now_ms)]

    async def delete(self, caller: Caller, name: str) -> StoredFile | Refusal:
        """A file of the caller, which is there no more."""
        file = await self.find(caller, name)
        if isinstance(file, Refusal):
            return file
        try:
            await self.store.delete(caller.org, file)
        except FilesAway as error:
            return _away(error)
        return file

    async def open(
        self, caller: Caller, name: str
    ) -> tuple[StoredFile, AsyncIterator[bytes]] | Refusal:
        """A file of the caller with its content, the first piece of which was read."""
        file = await self.find(caller, name)
        if isinstance(file, Refusal):
            return file
        pieces = self.store.read(content_path(caller.org, name))
        try:
            first = await anext(pieces, b"")
        except FileMissing:
            return NO_FILE
        except FilesAway as error:
            return _away(error)
        return file, _told(first, pieces)

    async def _stock(self, org: str) -> Stock:
        return await self.store.stock(org, self.clock.now_ms())


async def _told(first: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """All pieces; where the store fails in between they end early, which their client sees by the length."""
    yield first
    try:
        async for piece in pieces:
            yield piece
    except (FilesAway, FileMissing) as error:
        _LOG.event(LogEvent.FILES_AWAY, error=error)


def _away(error: Exception) -> Refusal:
    _LOG.event(LogEvent.FILES_AWAY, error=error)
    return AWAY
