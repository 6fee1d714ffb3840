"""Files: what clients leave here for batches, and what batches leave for them, as OpenAI has it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from ingress.apis.openai.files import FileDeleted, FileList, FileObject, file_object
from ingress.auth.caller import Caller
from ingress.files.names import StoredFile
from ingress.files.shelf import NO_FILES, Shelf
from ingress.gatekeeper.gatekeeper import Gatekeeper
from ingress.gatekeeper.local_limits import Shares
from ingress.http.refusals import Refusal
from ingress.http.request import page_limit
from ingress.http.responses import refusal_response
from schemas.errors import ErrorCode
from schemas.operations import JOBS

_DOWNLOADS: Final = (64, 16)
_LIMIT_MAX: Final = 10_000
_ORDERS: Final = ("asc", "desc")


@dataclass(slots=True)
class FileRoutes:
    """The files of the caller: a program's are those of its organization."""

    gatekeeper: Gatekeeper
    shelf: Shelf | None
    """``None`` where no files are kept."""
    downloads: Shares = field(default_factory=lambda: Shares(*_DOWNLOADS))

    async def list_all(self, request: Request) -> Response:
        """A page of files."""
        known = await self._known(request)
        if isinstance(known, Refusal):
            return refusal_response(request, known)
        caller, shelf = known
        limit = page_limit(request.query_params.get("limit"), _LIMIT_MAX, _LIMIT_MAX)
        if isinstance(limit, Refusal):
            return refusal_response(request, limit)
        files = await shelf.files(caller)
        if isinstance(files, Refusal):
            return refusal_response(request, files)
        asked = request.query_params
        order = asked.get("order", "desc")
        if order not in _ORDERS:
            message = f"order must be one of: {', '.join(_ORDERS)}."
            return refusal_response(
                request, Refusal(ErrorCode.INVALID_REQUEST, message, param="order")
            )
        return _json(_page(files, asked.get("purpose"), order, asked.get("after"), limit))

    async def show(self, request: Request) -> Response:
        """One file."""
        known = await self._known(request)
        if isinstance(known, Refusal):
            return refusal_response(request, known)
        caller, shelf = known
        file = await shelf.find(caller, request.path_params["file_id"])
        if isinstance(file, Refusal):
            return refusal_response(request, file)
        return _json(file_object(file))

    async def delete(self, request: Request) -> Response:
        """Delete a file."""
        known = await self._known(request)
        if isinstance(known, Refusal):
            return refusal_response(request, known)
        caller, shelf = known
        file = await shelf.delete(caller, request.path_params["file_id"])
        if isinstance(file, Refusal):
            return refusal_response(request, file)
        return _json({"id": file.id, "object": "file", "deleted": True})

    async def content(self, request: Request) -> Response:
        """The content of a file, as it was uploaded."""
        known = await self._known(request)
        if isinstance(known, Refusal):
            return refusal_response(request, known)
        caller, shelf = known
        refusal = self.downloads.enter(caller.org)
        if refusal is not None:
            return refusal_response(request, refusal)
        begun_s, clock = self.gatekeeper.clock.monotonic_s(), self.gatekeeper.clock

        def leave() -> None:
            self.downloads.leave(caller.org, 1_000 * (clock.monotonic_s() - begun_s))

        try:
            opened = await shelf.open(caller, request.path_params["file_id"])
        except BaseException:
            leave()
            raise
        if isinstance(opened, Refusal):
            leave()
            return refusal_response(request, opened)
        file, pieces = opened
        headers = {"content-length": str(file.bytes), "x-content-type-options": "nosniff"}
        return _Download(pieces, leave, headers)

    async def _known(self, request: Request) -> tuple[Caller, Shelf] | Refusal:
        """Who asks, and where."""
        caller = await self.gatekeeper.caller(request.scope, JOBS.scope)
        if isinstance(caller, Refusal):
            return caller
        return NO_FILES if self.shelf is None else (caller, self.shelf)


class _Download(StreamingResponse):
    """A content under way; its place is free again however it ends."""

    def __init__(
        self, pieces: AsyncIterator[bytes], leave: Callable[[], None], headers: Mapping[str, str]
    ) -> None:
        super().__init__(pieces, headers=headers, media_type="application/octet-stream")
        self._leave = leave

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._leave()


def _page(
    files: list[StoredFile], purpose: str | None, order: str, after: str | None, limit: int
) -> FileList:
    """The page of files, given newest first; those behind ``after`` in its order."""
    is_upwards = order == "asc"
    rest = [
        file
        for file in (reversed(files) if is_upwards else files)
        if (after is None or (file.id > after if is_upwards else file.id < after))
        and (purpose is None or file.purpose == purpose)
    ]
    page = [file_object(file) for file in rest[:limit]]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": len(rest) > limit,
    }


def _json(fields: FileObject | FileList | FileDeleted) -> Response:
    return Response(msgspec.json.encode(fields), media_type="application/json")
