"""Decodes what a backend compressed though nobody asked for it, piece by piece and within bounds. Pure.

Calls say ``Accept-Encoding: identity``; some proxies compress all the same. gzip and deflate (RFC 9110, 8.4.1) are
decoded, the latter with its zlib header or without, as servers send it; what else there is (br, zstd, two codings)
is refused by name. How much comes out is for the reader to bound: no more is made at once than it takes.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

from dispatcher.upstream.event_splitter import UpstreamGarbage

PIECE_BYTES_MAX: Final = 256 * 1024
_GZIP: Final = 16 + zlib.MAX_WBITS
_PLAIN: Final = frozenset({"", "identity", "none", "utf-8"})
"""The last two are no codings, but are sent where none is meant."""
_NAME_CHARS_MAX: Final = 32


class Decoding:
    """The pieces of one body, decoded."""

    def __init__(self, is_gzip: bool) -> None:  # noqa: FBT001  # one of two
        self._is_gzip = is_gzip
        self._inner = zlib.decompressobj(_GZIP)
        self._has_begun = is_gzip
        self._held = b""
        """The first byte of a deflate body: the second one tells whether they are a zlib header."""

    def decoded(self, received: bytes) -> Iterator[bytes]:
        """What the piece amounts to, in pieces again. Raises ``UpstreamGarbage`` where it is of no such coding."""
        if not self._has_begun:
            received, self._held = self._held + received, b""
            if len(received) < 2:  # noqa: PLR2004  # bytes of a zlib header
                self._held = received
                return
            self._has_begun = True
            is_zlib = received[0] & 15 == zlib.DEFLATED and not int.from_bytes(received[:2]) % 31
            self._inner = zlib.decompressobj(zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS)
        made = b""
        while received or len(made) == PIECE_BYTES_MAX:
            try:
                made = self._inner.decompress(received, PIECE_BYTES_MAX)
            except zlib.error as error:
                raise UpstreamGarbage("a body that is not of its content coding") from error
            if made:
                yield made
            received = self._inner.unconsumed_tail
            if self._inner.eof:
                received = self._inner.unused_data
                if not self._is_gzip:
                    return
                self._inner = zlib.decompressobj(_GZIP)  # RFC 1952: members may follow each other.


def decoding_of(header: str | None) -> Decoding | None:
    """What undoes a ``Content-Encoding``; ``None`` where there is nothing to undo.

    Raises ``UpstreamGarbage`` for a coding that is not taken.
    """
    coding = (header or "").strip().lower()
    if coding in _PLAIN:
        return None
    if coding in {"gzip", "x-gzip", "deflate"}:
        return Decoding(coding != "deflate")
    name = coding[:_NAME_CHARS_MAX]
    raise UpstreamGarbage(f"the content coding {name!a}, which was not asked for")
