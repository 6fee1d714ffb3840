"""Reads multipart/form-data piece by piece: what comes in goes out again, and no more than a delimiter is kept. Pure.

Sources: RFC 7578 (multipart/form-data), RFC 2046 section 5.1.1 (boundaries and delimiters), RFC 9110 section 5.6.4 (quoted
strings). What browsers and libraries do with names is followed where they differ from these: UTF-8, and ``%22`` for a quote.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, TypeAlias
from urllib.parse import unquote_to_bytes

__all__ = ["Malformed", "MultipartReader", "PartBegun", "PartData", "PartEvent", "boundary_of"]

PARTS_MAX: Final = 32
_HEAD_BYTES_MAX: Final = 8 * 1024
"""Of one part's headers; of what may stand before the first delimiter likewise."""
_PADDING_BYTES_MAX: Final = 128
"""White space that may follow a delimiter."""
_BOUNDARY: Final = re.compile(
    rb"multipart/form-data\s*;(?:.*;)?\s*boundary=(?:\"([^\"]{1,70})\"|([^\s;\"]{1,70}))(?=\s*(?:;|$))",
    re.IGNORECASE,
)
_PARAMETER: Final = re.compile(rb';\s*([a-zA-Z]+\*?)=(?:"((?:[^"\\]|\\.)*)"|([^;\s"]*))')
_ESCAPED: Final = re.compile(rb'\\(["\\])')


@dataclass(frozen=True, slots=True)
class PartBegun:
    """A part has begun: the name of its field, and of its file where it is one."""

    name: str
    filename: str | None


@dataclass(frozen=True, slots=True)
class PartData:
    """More of the part that began last."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Malformed:
    """It is no such form; nothing comes after this."""

    why: str


PartEvent: TypeAlias = PartBegun | PartData | Malformed


class _State(Enum):
    PREAMBLE = "preamble"
    DELIMITER = "delimiter"
    HEAD = "head"
    DATA = "data"
    OVER = "over"


def boundary_of(content_type: bytes) -> bytes | None:
    """The boundary that a header announces; ``None`` when it announces no such form."""
    found = _BOUNDARY.match(content_type.strip())
    return None if found is None else found[1] or found[2]


@dataclass(slots=True)
class MultipartReader:
    """A form as it arrives; its memory is one delimiter, or one part's headers."""

    boundary: bytes
    _rest: bytes = b"\r\n"  # The first delimiter may stand at the very beginning.
    _state: _State = _State.PREAMBLE
    _parts: int = 0
    _preamble_bytes: int = field(default=0)

    @property
    def is_over(self) -> bool:
        """Whether the last delimiter came; what stands behind it is nothing."""
        return self._state is _State.OVER

    def feed(self, piece: bytes) -> Iterator[PartEvent]:
        """What the next piece brings."""
        self._rest += piece
        while self._state is not _State.OVER:
            before, length = self._state, len(self._rest)
            for event in self._step():
                yield event
                if isinstance(event, Malformed):
                    self._state = _State.OVER
                    return
            if self._state is before and len(self._rest) == length:
                return
        self._rest = b""

    def _step(self) -> Iterator[PartEvent]:
        match self._state:
            case _State.PREAMBLE | _State.DATA:
                yield from self._until_delimiter()
            case _State.DELIMITER:
                yield from self._after_delimiter()
            case _State.HEAD:
                yield from self._head()

    def _until_delimiter(self) -> Iterator[PartEvent]:
        """Hand out what is certain to be no delimiter."""
        delimiter, is_data = b"\r\n--" + self.boundary, self._state is _State.DATA
        at = self._rest.find(delimiter)
        if at >= 0:
            data, self._rest = self._rest[:at], self._rest[at + len(delimiter) :]
            self._state = _State.DELIMITER
        else:
            sure = max(0, len(self._rest) - len(delimiter) + 1)
            data, self._rest = self._rest[:sure], self._rest[sure:]
        if is_data and data:
            yield PartData(data)
        elif not is_data:
            self._preamble_bytes += len(data)
            if self._preamble_bytes > _HEAD_BYTES_MAX:
                yield Malformed("the boundary of its Content-Type does not stand in it")

    def _after_delimiter(self) -> Iterator[PartEvent]:
        if self._rest.startswith(b"--"):
            self._state = _State.OVER
            return
        padding, found, rest = self._rest.partition(b"\r\n")
        if len(padding) > _PADDING_BYTES_MAX or (found and padding.strip(b" \t")):
            yield Malformed("something else follows a boundary than a line's end")
        elif found:
            self._state, self._rest = _State.HEAD, rest
            self._parts += 1
            if self._parts > PARTS_MAX:
                yield Malformed(f"it has more than {PARTS_MAX} parts")

    def _head(self) -> Iterator[PartEvent]:
        head, found, rest = self._rest.partition(b"\r\n\r\n")
        if len(head) > _HEAD_BYTES_MAX:
            yield Malformed(f"a part has more than {_HEAD_BYTES_MAX} bytes of headers")
        elif found:
            self._state, self._rest = _State.DATA, rest
            yield _begun(head)


def _begun(head: bytes) -> PartBegun | Malformed:
    """The part with these headers."""
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() != b"content-disposition":
            continue
        kind, parameters = value.partition(b";")[0].strip().lower(), _parameters(value)
        if kind != b"form-data" or b"name" not in parameters:
            break
        try:
            return PartBegun(parameters[b"name"].decode(), _filename(parameters))
        except UnicodeDecodeError:
            return Malformed("the name of a part is not UTF-8")
    return Malformed('a part has no header Content-Disposition: form-data; name="..."')


def _filename(parameters: Mapping[bytes, bytes]) -> str | None:
    """The name of a file, also where a library writes it as mail does (RFC 5987). Raises ``UnicodeDecodeError``."""
    plain, extended = parameters.get(b"filename"), parameters.get(b"filename*")
    if plain is None and extended is not None:
        _, _, plain = extended.rpartition(b"'")
        return unquote_to_bytes(plain).decode()
    return None if plain is None else plain.decode()


def _parameters(value: bytes) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for name, quoted, bare in _PARAMETER.findall(value):
        found.setdefault(name.lower(), _ESCAPED.sub(rb"\1", quoted).replace(b"%22", b'"') or bare)
    return found
