"""Makes replies of the bytes that a store sends, and is not surprised by anything that comes."""

from __future__ import annotations

from typing import Any, Final

import hiredis

from schemas.failures import Transient
from schemas.runtime.valkey.store import StoreError

REPLY_BYTES_MAX: Final = 64 * 1024 * 1024
"""A reply that is longer never ends, as far as this process is concerned."""
_NOT_YET: Final = object()


class BrokenProtocol(Transient):
    """What came is no reply, or belongs to no command: of this connection nothing can be believed."""


class ReplyReader:
    """A reply is whatever type the server chose; a refused command is a ``StoreError`` among them."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader(replyError=StoreError, notEnoughData=_NOT_YET)
        self._unread_bytes = 0

    def take(self, received: bytes) -> list[Any]:
        """The replies that are complete now. Raises ``BrokenProtocol``."""
        replies: list[Any] = []
        self._unread_bytes += len(received)
        try:
            self._reader.feed(received)
            while (reply := self._reader.gets()) is not _NOT_YET:
                replies.append(reply)
        except (hiredis.HiredisError, TypeError, ValueError, MemoryError) as error:
            raise BrokenProtocol(repr(error)) from error
        if replies:
            self._unread_bytes = 0
        elif self._unread_bytes > REPLY_BYTES_MAX:
            raise BrokenProtocol(f"a reply of more than {REPLY_BYTES_MAX} bytes")
        return replies
