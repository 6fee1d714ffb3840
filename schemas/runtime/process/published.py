"""Serves what is the same for everybody: the API's document and its pages, as they were built with this version."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from schemas.api_pages import API_PAGE, LLMS, LLMS_FULL, OPENAPI

__all__ = ["FOLDER", "api_routes"]

FOLDER: Final = Path(__file__).parents[2] / "published"
_FILES: Final = {
    OPENAPI: ("openapi.json", "application/json"),
    API_PAGE: ("docs.html", "text/html; charset=utf-8"),
    LLMS: ("llms.txt", "text/markdown; charset=utf-8"),
    LLMS_FULL: ("llms-full.txt", "text/markdown; charset=utf-8"),
}
_ETAG_CHARS: Final = 32


@dataclass(frozen=True, slots=True)
class _Published:
    """One file, and what its answers carry."""

    body: bytes
    headers: dict[str, str]

    async def answer(self, request: Request) -> Response:
        """The file, or that it is as it was."""
        asked = request.headers.get("if-none-match", "")
        if self.headers["etag"] in (tag.strip() for tag in asked.split(",")):
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=self.headers)
        return Response(self.body, headers=self.headers)


def api_routes() -> list[Route]:
    """The routes of all, whose files are read now and never again."""
    return [Route(path, _read(*file).answer, methods=["GET"]) for path, file in _FILES.items()]


def _read(name: str, content_type: str) -> _Published:
    body = (FOLDER / name).read_bytes()
    headers = {
        "content-type": content_type,
        "etag": f'"{hashlib.sha256(body).hexdigest()[:_ETAG_CHARS]}"',
        "cache-control": "no-cache",
        # The page has no script, and asks for nothing.
        "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
        "x-content-type-options": "nosniff",
    }
    return _Published(body, headers)
