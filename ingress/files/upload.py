"""Takes an upload in: the content of its file goes on as it comes, the fields beside it are kept, and all of it is bounded."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from starlette.types import Receive

from ingress.files.names import FILENAME_BYTES_MAX
from ingress.http.form_data import Malformed, MultipartReader, PartBegun, PartData, boundary_of
from ingress.http.refusals import Refusal
from ingress.http.request import announced_bytes
from schemas.errors import ErrorCode
from schemas.failures import Transient

__all__ = ["Upload", "UploadStopped", "upload_of"]

_FIELD_BYTES_MAX: Final = 4_096
_FORM_BYTES: Final = 64 * 1024
"""What stands around the content."""
_SILENT_S: Final = 15.0
_BEGUN_WITHIN_S: Final = 10.0
_BYTES_PER_S_MIN: Final = 64 * 1024
"""Every so many bytes earn an upload another second."""
_CONTENT: Final = "file"


class UploadStopped(Transient):
    """The upload ends here: with a refusal, or without one because its client is gone."""

    def __init__(self, refusal: Refusal | None) -> None:
        super().__init__()
        self.refusal = refusal


@dataclass(slots=True)
class Upload:
    """One upload as it arrives. Its fields, name and digest are whole once its content was taken to the end."""

    receive: Receive
    reader: MultipartReader
    bytes_max: int
    """Of its content."""
    digests: bool = False
    """Whether somebody asks for the digest."""
    fields: dict[str, str] = field(default_factory=dict)
    filename: str | None = None
    _hash: hashlib._Hash = field(default_factory=hashlib.sha256)
    _field: str | None = None
    """The name of the field that is being read; ``None`` within the content."""
    _held: bytearray = field(default_factory=bytearray)
    _content_bytes: int = 0

    @property
    def sha256(self) -> str:
        """Hexadecimal digest of the whole body."""
        return self._hash.hexdigest()

    async def content(self) -> AsyncIterator[bytes]:
        """The content of the file. Raises ``UploadStopped``."""
        async for piece in self._pieces():
            if self.digests:
                self._hash.update(piece)
            for event in self.reader.feed(piece):
                if isinstance(event, PartData) and self._field is None:
                    self._content_bytes += len(event.data)
                    if self._content_bytes > self.bytes_max:
                        raise UploadStopped(_too_large(self.bytes_max))
                    yield event.data
                else:
                    self._take(event)
        if not self.reader.is_over:
            raise UploadStopped(_malformed("its last boundary is missing"))
        self._end_field()
        if self.filename is None:
            raise UploadStopped(
                Refusal(ErrorCode.INVALID_REQUEST, "file is required.", param="file")
            )

    def _take(self, event: PartBegun | PartData | Malformed) -> None:
        match event:
            case Malformed(why):
                raise UploadStopped(_malformed(why))
            case PartData(data):
                self._held += data
                if len(self._held) > _FIELD_BYTES_MAX:
                    name = self._field
                    message = f"{name} has more than {_FIELD_BYTES_MAX} bytes."
                    raise UploadStopped(Refusal(ErrorCode.BODY_TOO_LARGE, message, param=name))
            case PartBegun(name, filename):
                self._end_field()
                self._field = None if name == _CONTENT else name
                if name == _CONTENT:
                    if self.filename is not None:
                        raise UploadStopped(_malformed("it has two parts named file"))
                    self.filename = _checked(filename or _CONTENT)

    def _end_field(self) -> None:
        """Keep the field that ended, if one was read."""
        if self._field is not None:
            self.fields[self._field] = self._held.decode(errors="replace")
        self._held.clear()
        self._field = None

    async def _pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes, as fast as anybody can send it."""
        loop, size = asyncio.get_running_loop(), 0
        begun_s = loop.time()
        while True:
            until_s = begun_s + _BEGUN_WITHIN_S + size / _BYTES_PER_S_MIN
            try:
                async with asyncio.timeout_at(min(until_s, loop.time() + _SILENT_S)):
                    message = await self.receive()
            except TimeoutError:
                said = f"The file came too slowly: {size} bytes of the body arrived."
                raise UploadStopped(Refusal(ErrorCode.BODY_TOO_SLOW, said)) from None
            if message["type"] == "http.disconnect":
                raise UploadStopped(None)
            piece = message.get("body", b"")
            size += len(piece)
            if size > self.bytes_max + _FORM_BYTES:
                raise UploadStopped(_too_large(self.bytes_max))
            yield piece
            if not message.get("more_body", False):
                return


def upload_of(
    headers: Mapping[bytes, bytes], receive: Receive, bytes_max: int, *, digests: bool
) -> Upload | Refusal:
    """The upload that these headers announce; nothing of it was read."""
    boundary = boundary_of(headers.get(b"content-type", b""))
    if boundary is None:
        message = "Send the file as Content-Type: multipart/form-data with a boundary."
        return Refusal(ErrorCode.UNSUPPORTED_MEDIA_TYPE, message)
    if headers.get(b"content-encoding", b"identity").strip().lower() != b"identity":
        return Refusal(ErrorCode.UNSUPPORTED_MEDIA_TYPE, "Send the file without Content-Encoding.")
    if (announced_bytes(headers) or 0) > bytes_max + _FORM_BYTES:
        return _too_large(bytes_max)
    return Upload(receive, MultipartReader(boundary), bytes_max, digests)


def _checked(filename: str) -> str:
    """The name, if a file may be called so. Raises ``UploadStopped``."""
    if len(filename.encode()) > FILENAME_BYTES_MAX or not filename.isprintable():
        message = f"The name of the file must be printable, and {FILENAME_BYTES_MAX} bytes at most."
        raise UploadStopped(Refusal(ErrorCode.INVALID_REQUEST, message, param=_CONTENT))
    return filename


def _malformed(why: str) -> Refusal:
    return Refusal(ErrorCode.INVALID_REQUEST, f"The body is no multipart/form-data: {why}.")


def _too_large(bytes_max: int) -> Refusal:
    return Refusal(
        ErrorCode.BODY_TOO_LARGE, f"A file may have {bytes_max} bytes at most.", param=_CONTENT
    )
