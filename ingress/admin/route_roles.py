"""The one table of who may do what over the admin API: each route, and the roles that it takes.

The owner may do everything. A route without a row cannot be served.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from schemas.admin_roles import Role

__all__ = ["ROUTE_ROLES", "RouteRoles", "roles_of"]


@dataclass(frozen=True, slots=True)
class RouteRoles:
    """A row; the path is as the route states it, below ``/admin/v1``."""

    method: str
    path: str
    roles: frozenset[Role]
    with_texts: frozenset[Role] | None = None
    """Who may ask for the texts of requests (``?payload=true``), where a route has them."""


_OWNER: Final = frozenset({Role.OWNER})
_OPERATE: Final = _OWNER | {Role.OPERATOR}
_MONEY: Final = _OWNER | {Role.FINANCE}
_PRICES: Final = _OPERATE | _MONEY
_SEE: Final = frozenset(Role)

ROUTE_ROLES: Final = (
    RouteRoles("GET", "/status", _SEE),
    RouteRoles("GET", "/lag", _SEE),
    RouteRoles("GET", "/scans", _SEE),
    RouteRoles("GET", "/audit", _SEE),
    RouteRoles("GET", "/requests/{id}", _SEE, _OPERATE),
    RouteRoles("GET", "/dlq", _SEE),
    RouteRoles("GET", "/dlq/{id}", _SEE, _OPERATE),
    RouteRoles("POST", "/dlq/{id}/retry", _OPERATE),
    RouteRoles("GET", "/webhooks", _SEE),
    RouteRoles("POST", "/webhooks/redeliver", _OPERATE),
    # Who has it can forge what its receiver believes.
    RouteRoles("POST", "/webhooks/secrets", _OWNER),
    RouteRoles("GET", "/usage", _MONEY),
    RouteRoles("GET", "/reconcile", _PRICES),
    RouteRoles("GET", "/ledger/verify", _PRICES),
    RouteRoles("GET", "/ledger/books", _SEE),
    RouteRoles("GET", "/ledger/shards", _SEE),
    RouteRoles("POST", "/ledger/rebuild", _OPERATE),
    RouteRoles("POST", "/config/adopt", _OPERATE),
    # It makes everything that is in force ours, whoever wrote it.
    RouteRoles("POST", "/config/sign", _OWNER),
    RouteRoles("GET", "/routes/{id:path}", _SEE),
    RouteRoles("GET", "/overrides", _SEE),
    RouteRoles("PUT", "/overrides/{kind}/{id:path}", _OPERATE),
    RouteRoles("DELETE", "/overrides/{kind}/{id:path}", _OPERATE),
    RouteRoles("GET", "/orgs", _SEE),
    RouteRoles("GET", "/orgs/{id:path}", _SEE),
    RouteRoles("PUT", "/orgs/{id:path}", _OWNER),
    RouteRoles("DELETE", "/orgs/{id:path}", _OWNER),
    RouteRoles("GET", "/projects", _SEE),
    RouteRoles("GET", "/projects/{id:path}", _SEE),
    RouteRoles("PUT", "/projects/{id:path}", _OWNER),
    RouteRoles("DELETE", "/projects/{id:path}", _OWNER),
    RouteRoles("GET", "/users", _SEE),
    RouteRoles("GET", "/users/{id:path}", _SEE),
    RouteRoles("PUT", "/users/{id:path}", _OWNER),
    RouteRoles("DELETE", "/users/{id:path}", _OWNER),
    RouteRoles("GET", "/keys", _SEE),
    RouteRoles("POST", "/keys", _OWNER),
    RouteRoles("GET", "/keys/{id:path}", _SEE),
    RouteRoles("PUT", "/keys/{id:path}", _OWNER),
    RouteRoles("DELETE", "/keys/{id:path}", _OWNER),
    # Who sees that a key leaked ends it; only the owner hands out another.
    RouteRoles("POST", "/keys/{id}/revoke", _OPERATE),
    RouteRoles("POST", "/keys/{id}/rotate", _OWNER),
    RouteRoles("GET", "/models", _SEE),
    RouteRoles("GET", "/models/{id:path}", _SEE),
    # A model's entry has its routes and its prices.
    RouteRoles("PUT", "/models/{id:path}", _PRICES),
    RouteRoles("DELETE", "/models/{id:path}", _OPERATE),
    RouteRoles("GET", "/backends", _SEE),
    RouteRoles("GET", "/backends/{id:path}", _SEE),
    RouteRoles("PUT", "/backends/{id:path}", _OPERATE),
    RouteRoles("DELETE", "/backends/{id:path}", _OPERATE),
    RouteRoles("POST", "/backends/{id:path}/drain", _OPERATE),
    RouteRoles("POST", "/backends/{id:path}/restore", _OPERATE),
)
"""All rows."""

_ROWS: Final = {(row.method, row.path): row for row in ROUTE_ROLES}


def roles_of(method: str, path: str) -> tuple[frozenset[Role], frozenset[Role]]:
    """Who may use a route, and who may have the texts of requests from it. Raises ``KeyError`` without a row."""
    row = _ROWS[method, path]
    return row.roles, row.roles if row.with_texts is None else row.with_texts
