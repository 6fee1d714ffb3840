"""Why an administrator's request is not carried out, and how that reads on the wire.

A refusal is an expected outcome and therefore a value; it becomes a problem+json body (RFC 9457)
with the status of its code in the table of errors.
"""

from __future__ import annotations

from dataclasses import dataclass

from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from schemas.error_bodies import ErrorResponse
from schemas.errors import ERRORS, ErrorCode

_DETAIL_CHARS_MAX = 2_000
_REFUSED_FROM = 400


class Problem(JSONResponse):
    """An answer that leaves its code in the request's state, to be counted."""

    code = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        scope.setdefault("state", {})["code"] = self.code
        await super().__call__(scope, receive, send)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A code of the error table, and a sentence that names what is wrong here."""

    code: ErrorCode
    detail: str


def problem_response(refusal: Refusal) -> Response:
    """The refusal as an HTTP answer."""
    spec = ERRORS[refusal.code]
    headers = {}
    if spec.retry_after_ms is not None:
        headers["retry-after"] = str(-(-spec.retry_after_ms // 1_000))
    # A detail may quote foreign text: it is bounded, and can be written whatever it holds.
    detail = refusal.detail[:_DETAIL_CHARS_MAX].encode(errors="replace").decode()
    body: ErrorResponse = {
        "type": "about:blank",
        "title": spec.title,
        "status": spec.status,
        "detail": detail,
        "error": detail,
        "code": refusal.code,
    }
    problem = Problem(body, spec.status, headers, media_type="application/problem+json")
    problem.code = refusal.code
    return problem


def is_refusal(answer: Response) -> bool:
    """Whether the answer says no."""
    return answer.status_code >= _REFUSED_FROM
