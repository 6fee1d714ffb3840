"""``/admin/v1/ledger/verify``: proves that the ledger and the log agree, or says where they do not."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ingress.admin.deps import AdminDeps
from ingress.admin.finance.verification import VerifyJob
from ingress.admin.finance.verify import COMPARED_SPAN
from ingress.admin.http.presence import while_present
from ingress.admin.http.refusal import Refusal, problem_response
from ingress.admin.log.scans import Scans
from schemas.errors import ErrorCode

KIND: Final = "ledger-verify"
_DEADLINE_DEFAULT_S: Final = 15.0
_DEADLINE_MAX_S: Final = 600.0
_READ_WITHIN_S: Final = 600.0
"""A log that takes longer is read in several verifications: each goes on where the last one was."""
_MARGIN_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class LedgerRoutes:
    """The handler of verification."""

    deps: AdminDeps
    scans: Scans

    def routes(self) -> list[Route]:
        """The path."""
        return [Route("/ledger/verify", self.verify, methods=["GET"])]

    async def verify(self, request: Request) -> Response:
        """The comparison, repeated until nothing differs or ``?deadline_s=`` passed.

        It goes on from its checkpoint; ``?from_start=true`` reads everything anew.
        """
        deadline_s = _deadline_s(request)
        if isinstance(deadline_s, Refusal):
            return problem_response(deadline_s)
        is_from_start = request.query_params.get("from_start") == "true"
        job = self._job(deadline_s, is_from_start=is_from_start)
        return await while_present(request, self._answer(job))

    def _job(self, deadline_s: float, *, is_from_start: bool) -> VerifyJob:
        settings, clock = self.deps.settings, self.deps.clock
        began_ms = clock.now_ms()
        today = datetime.fromtimestamp(began_ms / 1_000, UTC).replace(
            hour=0, minute=0, second=0, microsecond=0
        )
        oldest_ms = int((today - COMPARED_SPAN).timestamp() * 1_000)
        return VerifyJob(
            brokers=settings.kafka_brokers,
            ledger_url=settings.ledger_url,
            shards=self.deps.shards.count,
            folder=str(settings.data_dir),
            began_ms=began_ms,
            oldest_ms=oldest_ms,
            from_ms=clock.appended_span_ms(oldest_ms, began_ms)[0],
            deadline_s=deadline_s,
            read_within_s=_READ_WITHIN_S,
            is_from_start=is_from_start,
        )

    async def _answer(self, job: VerifyJob) -> Response:
        within_s = _READ_WITHIN_S + job.deadline_s + _MARGIN_S
        return JSONResponse(await self.scans.run(KIND, job, within_s))


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
