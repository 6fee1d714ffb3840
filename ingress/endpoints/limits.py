"""Limits: what the caller may still use, from one reading of the ledger that changes nothing."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ingress.apis.native.limits import limit_list, limits_of
from ingress.gatekeeper.gatekeeper import Gatekeeper
from ingress.http.refusals import Refusal
from ingress.http.responses import refusal_response
from schemas.errors import ErrorCode
from schemas.ledger.errors import LedgerUnavailable
from schemas.operations import INFERENCE
from schemas.runtime.ledger.client import LedgerClient
from schemas.stated_limits import Defaults

_AWAY = Refusal(ErrorCode.SERVICE_UNAVAILABLE, "What is left of the limits cannot be told now.")


class LimitRoutes:
    """The limits of the caller: those of its organization, project, key and user."""

    def __init__(self, gatekeeper: Gatekeeper, ledger: LedgerClient, default: Defaults) -> None:
        self._gatekeeper = gatekeeper
        self._ledger = ledger
        self._default = default

    async def show(self, request: Request) -> Response:
        """All of them as they stand."""
        caller = await self._gatekeeper.caller(request.scope, INFERENCE.scope)
        if isinstance(caller, Refusal):
            return refusal_response(request, caller)
        config = self._gatekeeper.config.snapshot
        if caller.org not in config.organizations:
            return refusal_response(request, _AWAY)
        limits = limits_of(caller, config, self._default, self._gatekeeper.clock.now_ms())
        try:
            read = await self._ledger.limits(
                caller.org, limits.rates, limits.leases, limits.balances
            )
        except LedgerUnavailable:
            return refusal_response(request, _AWAY)
        body = msgspec.json.encode(limit_list(limits, read))
        return Response(body, media_type="application/json")
