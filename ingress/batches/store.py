"""Reads and writes batches in the store of files."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from ingress.batches.batch import (
    OPEN_PREFIX,
    Batch,
    batches_prefix,
    cancel_path,
    open_path,
    part_path,
    parts_prefix,
    read_open,
    state_path,
    states_prefix,
)
from ingress.files.names import StoredFile, content_path
from ingress.files.stock import FileMissing, FilesAway

if TYPE_CHECKING:
    from ingress.files.store import FileStore

_READ_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class BatchStore:
    """The batches of all organizations. Every call raises ``FilesAway`` while the store is away."""

    files: FileStore

    async def begin(self, batch: Batch) -> None:
        """Write a new batch, then that there is one to run."""
        org = batch.caller.org
        await self.files.put(state_path(org, batch.id, 0), msgspec.json.encode(batch))
        await self.files.put(open_path(org, batch.id), b"")

    async def find(self, org: str, batch: str) -> tuple[Batch, int] | None:
        """A batch in its last state, and the fence of who wrote that."""
        paths = await self.files.paths(states_prefix(org, batch))
        return None if not paths else await self._read(paths[-1])

    async def ids(self, org: str) -> list[str]:
        """All batches of an organization, newest first."""
        paths = await self.files.paths(batches_prefix(org))
        return sorted({path.split("/")[2] for path in paths}, reverse=True)

    async def open(self) -> list[tuple[str, str]]:
        """Organization and id of the batches that have not ended, oldest first."""
        found = map(read_open, await self.files.paths(OPEN_PREFIX))
        return [each for each in found if each is not None]

    async def own(self, org: str, batch: str) -> tuple[Batch, int] | None:
        """Become the owner of a batch: its last state, and the fence to write under; ``None`` when another was faster."""
        found = await self.find(org, batch)
        if found is None:
            await self.files.remove(open_path(org, batch))
            return None
        last, fence = found
        path = state_path(org, batch, fence + 1)
        return (
            (last, fence + 1) if await self.files.claim(path, msgspec.json.encode(last)) else None
        )

    async def tell(self, batch: Batch, fence: int) -> None:
        """Say how far it came."""
        path = state_path(batch.caller.org, batch.id, fence)
        await self.files.put(path, msgspec.json.encode(batch))

    async def close(self, batch: Batch) -> None:
        """Take away what only a running batch needs."""
        org = batch.caller.org
        for path in await self.files.paths(parts_prefix(org, batch.id)):
            await self.files.remove(path)
        await self.files.remove(cancel_path(org, batch.id))
        await self.files.remove(open_path(org, batch.id))

    async def ask_cancel(self, org: str, batch: str) -> None:
        """Say that it is to be cancelled."""
        await self.files.put(cancel_path(org, batch), b"")

    async def is_cancelled(self, org: str, batch: str) -> bool:
        """Whether somebody said that."""
        try:
            await self.files.get(cancel_path(org, batch))
        except FileMissing:
            return False
        return True

    async def forget(self, org: str, batch: str) -> None:
        """Take an ended batch away."""
        for path in await self.files.paths(states_prefix(org, batch)):
            await self.files.remove(path)

    async def add_part(self, batch: Batch, fence: int, number: int, content: bytes) -> None:
        """Keep lines that ended."""
        await self.files.put(part_path(batch.caller.org, batch.id, fence, number), content)

    async def parts(self, batch: Batch) -> AsyncIterator[bytes]:
        """All that was kept of lines that ended, one part after the other."""
        for path in await self.files.paths(parts_prefix(batch.caller.org, batch.id)):
            yield await self.files.get(path)

    async def lines(self, batch: Batch, line_bytes_max: int) -> AsyncIterator[bytes | None]:
        """The lines of its input; ``None`` for one that is too long, behind which nothing comes. Raises ``FileMissing``."""
        path, held, at = content_path(batch.caller.org, batch.input_file_id), b"", 0
        while at < batch.input_bytes:
            length = min(_READ_BYTES, batch.input_bytes - at)
            held += await self.files.read_at(path, at, length)
            at += length
            *whole, held = held.split(b"\n")
            for line in whole:
                yield line
            if len(held) > line_bytes_max:
                yield None
                return
        if held:
            yield held

    async def write_file(self, org: str, file: StoredFile, pieces: AsyncIterator[bytes]) -> bool:
        """Write a file of an organization; whether there was anything to write."""
        size = await self.files.write(content_path(org, file.id), pieces)
        if not size:
            await self.files.discard(org, file.id)
            return False
        await self.files.describe(org, msgspec.structs.replace(file, bytes=size))
        return True

    async def _read(self, path: str) -> tuple[Batch, int]:
        try:
            batch = msgspec.json.decode(await self.files.get(path), type=Batch)
            return batch, int(path.rpartition("/")[2])
        except (ValueError, FileMissing) as error:
            raise FilesAway(f"{path} is no state of a batch") from error
