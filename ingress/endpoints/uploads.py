"""Uploads: a form with a file in it, whose content goes into the store while it comes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec
from starlette.types import Receive, Scope, Send

from ingress.apis.openai.files import file_object, read_terms
from ingress.auth.caller import Caller
from ingress.auth.signature import Unproven
from ingress.files.names import StoredFile
from ingress.files.shelf import NO_FILES, Shelf
from ingress.files.upload import Upload, UploadStopped, upload_of
from ingress.gatekeeper.gatekeeper import Gatekeeper
from ingress.gatekeeper.local_limits import Shares
from ingress.http.refusals import Refusal
from ingress.http.request import announced_bytes
from ingress.http.responses import refuse, respond
from schemas.operations import JOBS

_AT_ONCE: Final = (16, 4)
"""In this process, and of one organization: each holds two parts of its content, some 10 MiB."""


@dataclass(slots=True)
class UploadEndpoint:
    """Takes files in, as an ASGI application."""

    gatekeeper: Gatekeeper
    shelf: Shelf | None
    """``None`` where no files are kept."""
    bytes_max: int
    """Of one file."""
    shares: Shares = field(default_factory=lambda: Shares(*_AT_ONCE))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        answer = await self._enter(scope, receive)
        if isinstance(answer, Refusal):
            await refuse(send, answer, "openai", scope["state"], [])
        elif answer is not None:
            body = msgspec.json.encode(file_object(answer))
            await respond(send, 200, b"application/json", body, [])

    async def _enter(self, scope: Scope, receive: Receive) -> StoredFile | Refusal | None:
        """The new file; ``None`` when its client left before it was whole."""
        told = await self.gatekeeper.uploading(scope, JOBS.scope)
        if isinstance(told, Refusal):
            return told
        if self.shelf is None:
            return NO_FILES
        org, clock = (told if isinstance(told, Caller) else told.caller).org, self.gatekeeper.clock
        refusal, begun_s = self.shares.enter(org), clock.monotonic_s()
        if refusal is not None:
            return refusal
        try:
            return await self._take(self.shelf, told, scope, receive)
        except UploadStopped as stopped:
            return stopped.refusal
        finally:
            self.shares.leave(org, 1_000 * (clock.monotonic_s() - begun_s))

    async def _take(
        self, shelf: Shelf, told: Caller | Unproven, scope: Scope, receive: Receive
    ) -> StoredFile | Refusal:
        """Raises ``UploadStopped``."""
        headers: Mapping[bytes, bytes] = dict(scope["headers"])
        caller = told if isinstance(told, Caller) else told.caller
        is_signed = isinstance(told, Unproven)
        upload = upload_of(headers, receive, self.bytes_max, digests=is_signed)
        if isinstance(upload, Refusal):
            return upload
        content = upload.content()
        if isinstance(told, Unproven):
            content = self._proved(told, upload, content, scope["state"]["request_id"])

        def describe(name: str, size: int) -> StoredFile | Refusal:
            return _described(upload, caller, name, size)

        return await shelf.put(caller.org, content, announced_bytes(headers) or 0, describe)

    async def _proved(
        self, told: Unproven, upload: Upload, content: AsyncIterator[bytes], request_id: str
    ) -> AsyncIterator[bytes]:
        """The content of a signed request, which ends with a refusal where it is not what was signed."""
        async for piece in content:
            yield piece
        refusal = await self.gatekeeper.prove(told, upload.sha256, request_id)
        if refusal is not None:
            raise UploadStopped(refusal)


def _described(upload: Upload, caller: Caller, name: str, size: int) -> StoredFile | Refusal:
    terms = read_terms(upload.fields)
    if isinstance(terms, Refusal):
        return terms
    assert upload.filename is not None, "an upload without a file was refused"
    file = StoredFile(name, size, upload.filename, terms.purpose, owner=caller.owner)
    return msgspec.structs.replace(file, expires_at_s=file.created_at_s + terms.kept_s)
