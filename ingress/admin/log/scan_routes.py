"""``/admin/v1/scans``: which long readings are under way, and how far they are."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TypedDict

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ingress.admin.log.scans import Running, Scans


class ScansAnswer(TypedDict):
    """The long readings that are under way."""

    items: list[Running]


@dataclass(frozen=True, slots=True)
class ScanRoutes:
    """The handler of scans."""

    scans: Scans

    def routes(self) -> list[Route]:
        """The path."""
        return [Route("/scans", self.list_all, methods=["GET"])]

    async def list_all(self, _: Request) -> Response:
        """Those under way, one per kind at most; ``total`` is what was to be read when it last looked."""
        return JSONResponse({"items": [asdict(one) for one in self.scans.running.values()]})
