"""``/admin/v1/routes/{model}``: what a request for the model would do now, and why.

Dispatchers report what they see of their backends every two seconds, and within a quarter of one after a change;
the answer says how old each report is. Nothing is asked of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ingress.admin.deps import AdminDeps
from ingress.admin.fleet.overrides import overrides_shown
from ingress.admin.fleet.propagation import instances_of
from ingress.admin.fleet.route_explanation import Seen, explained
from ingress.admin.http.refusal import Refusal, problem_response
from schemas.entities import Key
from schemas.errors import ErrorCode
from schemas.ledger.keys import BACKEND_HEALTH
from schemas.reports import BackendReport, read_backend_field, read_backend_report
from schemas.runtime.valkey.store import text_pairs

_ROLE = "dispatcher"
_PARAMETERS = {"org", "key"}


@dataclass(frozen=True, slots=True)
class ExplainRoutes:
    """The handler of explanations."""

    deps: AdminDeps

    def routes(self) -> list[Route]:
        """The path; a model's name may contain slashes."""
        return [Route("/routes/{id:path}", self.explain, methods=["GET"])]

    async def explain(self, request: Request) -> Response:
        """For anybody, or for a key with ``?key=``; with ``?org=``, only if it is that organization's."""
        name, snapshot = request.path_params["id"], self.deps.config.snapshot
        if strange := set(request.query_params) - _PARAMETERS:
            what = f"{min(strange)!r} is unknown; one of {', '.join(sorted(_PARAMETERS))}"
            return problem_response(Refusal(ErrorCode.INVALID_REQUEST, what))
        if name not in snapshot.models:
            why = "cannot be read" if ("model", name) in snapshot.closed else "does not exist"
            return problem_response(Refusal(ErrorCode.NOT_FOUND, f"model/{name} {why}"))
        caller = self._caller(request)
        if isinstance(caller, Refusal):
            return problem_response(caller)
        now_ms = self.deps.clock.now_ms()
        overrides = overrides_shown(self.deps.config.entries(), snapshot.problems, now_ms)
        seen = await self._seen()
        return JSONResponse(explained(name, snapshot, overrides, seen, now_ms, caller))

    def _caller(self, request: Request) -> tuple[str, Key] | Refusal | None:
        snapshot = self.deps.config.snapshot
        org, key_id = request.query_params.get("org"), request.query_params.get("key")
        if org is not None and org not in snapshot.organizations:
            return Refusal(ErrorCode.NOT_FOUND, f"organization/{org} does not exist")
        if key_id is None:
            return None
        key = snapshot.keys.get(key_id)
        if key is None or org not in (None, key.org):
            whose = "" if key is None else f" in {org}"
            return Refusal(ErrorCode.NOT_FOUND, f"key/{key_id} does not exist{whose}")
        return key_id, key

    async def _seen(self) -> list[Seen]:
        """All dispatchers that live, by name. Raises ``StoreUnavailable``."""
        store, clock = self.deps.ledger_store, self.deps.clock
        instances = [i for i in await instances_of(store, clock) if i.role == _ROLE and i.is_live]
        said: dict[str, dict[str, BackendReport]] = {}
        for field, line in text_pairs(await store.call("HGETALL", BACKEND_HEALTH)).items():
            instance, backend = read_backend_field(field)
            if (report := read_backend_report(line)) is not None:
                said.setdefault(instance, {})[backend] = report
        now_ms = clock.now_ms()
        return [
            Seen(i.name, i.offset, _age_ms(said.get(i.name, {}), now_ms), said.get(i.name, {}))
            for i in instances
        ]


def _age_ms(reports: dict[str, BackendReport], now_ms: int) -> int | None:
    """The age of the newest; ``None`` where there is none."""
    return max(0, now_ms - max(r.at_ms for r in reports.values())) if reports else None
