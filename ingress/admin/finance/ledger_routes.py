"""``/admin/v1/ledger``: proves that the ledger and the log agree, or says where they do not, and what was said last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypedDict

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ingress.admin.finance.books_alarm import BooksShown
from ingress.admin.finance.verifier import Verifier
from ingress.admin.http.presence import while_present
from ingress.admin.http.refusal import Refusal, problem_response
from schemas.errors import ErrorCode

_DEADLINE_DEFAULT_S: Final = 15.0
_DEADLINE_MAX_S: Final = 600.0


class BooksAnswer(TypedDict):
    """What the last verification said of each shard."""

    items: list[BooksShown]


@dataclass(frozen=True, slots=True)
class LedgerRoutes:
    """The handlers of verification."""

    verifier: Verifier

    def routes(self) -> list[Route]:
        """The paths."""
        return [
            Route("/ledger/verify", self.verify, methods=["GET"]),
            Route("/ledger/books", self.books, methods=["GET"]),
        ]

    async def verify(self, request: Request) -> Response:
        """The comparison, repeated until nothing differs or ``?deadline_s=`` passed.

        It goes on from its checkpoint; ``?full=true`` reads everything anew.
        """
        deadline_s = _deadline_s(request)
        if isinstance(deadline_s, Refusal):
            return problem_response(deadline_s)
        is_full = request.query_params.get("full") == "true"
        return await while_present(request, self._answer(deadline_s, is_full=is_full))

    async def _answer(self, deadline_s: float, *, is_full: bool) -> Response:
        return JSONResponse(await self.verifier.verify(deadline_s, is_full=is_full))

    async def books(self, _: Request) -> Response:
        """What the last verification said of each shard; none was made in the first minute."""
        return JSONResponse({"items": self.verifier.alarm.document()})


def _deadline_s(request: Request) -> float | Refusal:
    given = request.query_params.get("deadline_s")
    if given is None:
        return _DEADLINE_DEFAULT_S
    try:
        deadline_s = float(given)
    except ValueError:
        deadline_s = -1.0
    if not 0 <= deadline_s <= _DEADLINE_MAX_S:
        return Refusal(ErrorCode.INVALID_REQUEST, f"deadline_s is 0 to {_DEADLINE_MAX_S:.0f}")
    return deadline_s
