"""Keeps files in a folder or a bucket, through obstore; every call ends within a bound, and a store that is away says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import from_url

from ingress.files.names import (
    StoredFile,
    content_path,
    contents_prefix,
    description_path,
    descriptions_prefix,
    made_ms,
    newest_first,
    read_description,
)
from ingress.files.stock import FileMissing, FilesAway, Stock

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

WITHIN_S: Final = 30.0
"""One call of the store; a part of a long content is one call."""
_PIECE_BYTES: Final = 256 * 1024
_BUFFER_BYTES: Final = 5 * 1024 * 1024
"""The least that S3 takes as a part of an object."""
_LISTED_AT_ONCE: Final = 1_000
_LEFT_AFTER_MS: Final = 24 * 3_600_000
"""Content without a description is that of an upload under way, or was left by a process that was killed."""
_FOLDER: Final = "file://"
_PATIENCE: Final[ClientConfig] = {
    "connect_timeout": "5s",
    "read_timeout": "20s",
    "timeout": "600s",
    "allow_http": True,  # Whoever writes an endpoint without TLS means it.
}
"""A content may be read for as long as its client takes it; every read of it has a bound of its own."""
_RETRIES: Final[RetryConfig] = {"max_retries": 3, "retry_timeout": timedelta(seconds=10)}


@dataclass(slots=True)
class FileStore:
    """Files of all organizations, each below its own path."""

    objects: ObjectStore
    folder: Path | None = None
    """Where it is one: a folder that is not mounted any more is away, and not empty."""

    async def describe(self, org: str, file: StoredFile) -> None:
        """Make a file whose content is there be there. Raises ``FilesAway``."""
        with _asked():
            async with asyncio.timeout(WITHIN_S):
                await obstore.put_async(self.objects, description_path(org, file), b"")

    async def find(self, org: str, file: str) -> StoredFile | None:
        """A file of the organization by its id. Raises ``FilesAway``."""
        async for path, _ in self._below(descriptions_prefix(org, file)):
            return read_description(org, path)
        return None

    async def files(self, org: str) -> list[StoredFile]:
        """All of the organization, newest first. Raises ``FilesAway``."""
        found = [
            read_description(org, path) async for path, _ in self._below(descriptions_prefix(org))
        ]
        return newest_first(file for file in found if file is not None)

    async def stock(self, org: str, now_ms: int) -> Stock:
        """What the organization has, once what is over or was left was taken away. Raises ``FilesAway``."""
        files, sizes = await self.files(org), {}
        async for path, size in self._below(contents_prefix(org)):
            sizes[path.rpartition("/")[2]] = size
        kept = []
        for file in files:
            if file.is_open_to(None, now_ms):
                kept.append(file)
            else:
                await self.delete(org, file)
                sizes.pop(file.id, None)
        for left in sizes.keys() - {file.id for file in kept}:
            if _is_left(left, now_ms):
                await self._delete(content_path(org, left))
                del sizes[left]
        return Stock(tuple(kept), sizes)

    async def delete(self, org: str, file: StoredFile) -> None:
        """Take a file away: first it is there no more, then its content is. Raises ``FilesAway``."""
        await self._delete(description_path(org, file))
        await self._delete(content_path(org, file.id))

    async def discard(self, org: str, file: str) -> None:
        """Take away content that was never described. Raises ``FilesAway``."""
        await self._delete(content_path(org, file))

    async def write(self, path: str, pieces: AsyncIterator[bytes]) -> int:
        """Write an object from pieces, none of which is kept for longer than the store needs; how many bytes it has. It is
        there as a whole or not at all. Raises ``FilesAway``, and what the pieces raise."""
        size, held = 0, bytearray()
        writer = obstore.open_writer_async(
            self.objects, path, buffer_size=_BUFFER_BYTES, max_concurrency=1
        )
        async for piece in pieces:
            size += len(piece)
            held += piece
            if len(held) >= _PIECE_BYTES:
                with _asked():
                    async with asyncio.timeout(WITHIN_S):
                        await writer.write(bytes(held))
                held.clear()
        with _asked():
            async with asyncio.timeout(WITHIN_S):
                await writer.write(bytes(held))
                await writer.close()
        return size

    async def read(self, path: str) -> AsyncIterator[bytes]:
        """The content of an object, piece by piece. Raises ``FilesAway`` and ``FileMissing``."""
        with _asked():
            async with asyncio.timeout(WITHIN_S):
                found = await obstore.get_async(self.objects, path)
            pieces = aiter(found.stream(min_chunk_size=_PIECE_BYTES))
        while True:
            with _asked():
                try:
                    async with asyncio.timeout(WITHIN_S):
                        piece = await anext(pieces)
                except StopAsyncIteration:
                    return
            yield bytes(piece)

    async def put(self, path: str, content: bytes) -> None:
        """Write a small object anew. Raises ``FilesAway``."""
        with _asked():
            async with asyncio.timeout(WITHIN_S):
                await obstore.put_async(self.objects, path, content)

    async def claim(self, path: str, content: bytes) -> bool:
        """Write a small object unless there is one; whether this call did. Of many at once one does. Raises ``FilesAway``."""
        try:
            async with asyncio.timeout(WITHIN_S):
                await obstore.put_async(self.objects, path, content, mode="create")
        except (AlreadyExistsError, PreconditionError):
            return False
        except (TimeoutError, BaseError, OSError, ValueError) as error:
            raise FilesAway(_cause(error)) from error
        return True

    async def get(self, path: str) -> bytes:
        """A small object. Raises ``FilesAway`` and ``FileMissing``."""
        return b"".join([piece async for piece in self.read(path)])

    async def read_at(self, path: str, start: int, length: int) -> bytes:
        """So many bytes of an object that has them. Raises ``FilesAway`` and ``FileMissing``."""
        with _asked():
            async with asyncio.timeout(WITHIN_S):
                found = await obstore.get_range_async(
                    self.objects, path, start=start, length=length
                )
        return bytes(found)

    async def paths(self, prefix: str) -> list[str]:
        """The paths of all objects below a prefix, in order. Raises ``FilesAway``."""
        return sorted([path async for path, _ in self._below(prefix)])

    async def remove(self, path: str) -> None:
        """Take an object away, if it is there. Raises ``FilesAway``."""
        await self._delete(path)

    async def _below(self, prefix: str) -> AsyncIterator[tuple[str, int]]:
        """Path and size of all objects below a prefix."""
        if self.folder is not None and not self.folder.is_dir():
            raise FilesAway(f"{self.folder} is no folder")
        listed = aiter(obstore.list(self.objects, prefix, chunk_size=_LISTED_AT_ONCE))
        while True:
            with _asked():
                try:
                    async with asyncio.timeout(WITHIN_S):
                        chunk = await anext(listed)
                except StopAsyncIteration:
                    return
            for meta in chunk:
                yield meta["path"], meta["size"]

    async def _delete(self, path: str) -> None:
        try:
            with _asked():
                async with asyncio.timeout(WITHIN_S):
                    await obstore.delete_async(self.objects, path)
        except FileMissing:
            return


def open_files(url: str) -> FileStore:
    """The store at a URL; a folder is made. What S3 needs stands in the variables of AWS's own programs. Raises ``ValueError``
    for a URL that is none of a store."""
    try:
        if url.startswith(_FOLDER):
            store = from_url(url, mkdir=True)
            return FileStore(store, Path(url2pathname(urlsplit(url).path)))
        return FileStore(from_url(url, client_options=_PATIENCE, retry_config=_RETRIES))
    except BaseError as error:
        raise ValueError(f"{url} cannot be used: {error}") from None


def _is_left(file: str, now_ms: int) -> bool:
    try:
        return now_ms - made_ms(file) > _LEFT_AFTER_MS
    except ValueError:
        return False


def _cause(error: Exception) -> str:
    """What the library says for people; how it came about in its own terms stands below."""
    return str(error).partition("\n")[0]


@contextmanager
def _asked() -> Iterator[None]:
    """What the store says when it does not do what it was asked for, in our words."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileMissing("there is no such object") from error
    except TimeoutError as error:
        raise FilesAway(f"no answer within {WITHIN_S:.0f} s") from error
    except (BaseError, OSError, ValueError) as error:
        raise FilesAway(_cause(error)) from error
